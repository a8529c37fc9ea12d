"""Saved agents: what is written down, how it replaces its predecessor, where it is found and how long it stays."""
