"""Sizes of layers, heads and windows, checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rl_framework.errors import InvalidInputError


def check_size(name: str, size: Any) -> int:
    """A size, if it is one.

    Raises:
        InvalidInputError: It is below 1, or no whole number.
    """
    if not _is_size(size):
        raise InvalidInputError(f"{name} must be a whole number from 1, got {size!r}.")
    return int(size)


def as_sizes(name: str, value: Any) -> tuple[int, ...]:
    """Numbers of units as a tuple.

    Raises:
        InvalidInputError: They are not whole numbers from 1.
    """
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(_is_size(size) for size in value):
        raise InvalidInputError(f"{name} must be whole numbers from 1, such as [32, 32]; got {value!r}.")
    return tuple(value)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
