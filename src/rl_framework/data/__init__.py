"""Recorded experience: episodes as they are stored and shared."""

from rl_framework.data.episode import Episode

__all__ = ["Episode"]
