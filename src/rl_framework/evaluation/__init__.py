"""How good a policy is: episodes played with fixed quotas and seeds, and honest statistics of their returns."""
