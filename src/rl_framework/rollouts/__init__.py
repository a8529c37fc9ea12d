"""Where policy meets environment: steps, and whole episodes made of them."""
