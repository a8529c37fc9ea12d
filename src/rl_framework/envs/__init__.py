"""Environments side by side: one step contract, its back-ends, and the border where foreign ones are translated."""
