"""Warnings of the library about its own ways with observations, which tell its users nothing."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

ABOUT_ITSELF = ("trying to unwrap object of type", "tried to wrap")


@contextmanager
def quiet_observations() -> Iterator[None]:
    """Leave out what the library says when it meets a dictionary it has unwrapped already, or a whole number."""
    with warnings.catch_warnings():
        for message in ABOUT_ITSELF:
            warnings.filterwarnings("ignore", message, UserWarning)
        yield
