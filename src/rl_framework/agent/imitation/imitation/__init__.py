"""Every algorithm of the library `imitation` as an agent."""
