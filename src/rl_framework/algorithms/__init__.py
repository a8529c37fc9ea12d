"""Native learners: the protocol and the one training loop in `base`, and one file per algorithm."""
