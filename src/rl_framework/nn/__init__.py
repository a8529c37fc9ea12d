"""Networks: encoders of observations, heads for actions, distributions, and policies made of them."""
