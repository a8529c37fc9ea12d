"""The algorithms of d3rlpy as agents; the library itself is imported when an agent is made."""
