"""What settings may be: numbers within bounds, and counts."""

from __future__ import annotations

import math
from typing import Any

from rl_framework.errors import InvalidInputError


def is_finite_number(value: Any) -> bool:
    """Whether something is a number, and neither a truth value, NaN nor infinite."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_number(name: str, value: Any, *, low: float = -math.inf, high: float = math.inf) -> None:
    """Refuse what is no finite number within bounds, both of them included.

    Args:
        name: What it is, for the message.
        value: What is given.
        low: Least that is accepted.
        high: Greatest that is accepted.

    Raises:
        InvalidInputError: It is no number, not finite, or outside.
    """
    if not is_finite_number(value) or not low <= value <= high:
        bounds = f" in [{low:g}, {high:g}]" if math.isfinite(low) or math.isfinite(high) else ""
        raise InvalidInputError(f"{name} must be a finite number{bounds}, got {value!r}.")


def check_count(name: str, value: Any, *, least: int = 1) -> None:
    """Refuse what is no whole number from `least`.

    Raises:
        InvalidInputError: It is not.
    """
    if type(value) is not int or value < least:
        raise InvalidInputError(f"{name} must be a whole number from {least}, got {value!r}.")
