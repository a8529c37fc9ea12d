"""Refuses settings of update rules that are out of range."""

from __future__ import annotations

from rl_framework.algorithms.setting_ranges import check_count, is_finite_number
from rl_framework.errors import InvalidInputError, UnknownOptionError


def check_numbers(
    config: object,
    *,
    positive: tuple[str, ...] = (),
    from_zero: tuple[str, ...] = (),
    positive_or_none: tuple[str, ...] = (),
) -> None:
    """Refuse settings that are not finite numbers above 0, or from 0.

    Raises:
        InvalidInputError: One is not.
    """
    for name in (*positive, *from_zero, *positive_or_none):
        value = getattr(config, name)
        if value is None and name in positive_or_none:
            continue
        if not is_finite_number(value) or value < 0.0 or (value == 0.0 and name not in from_zero):
            bound = "a finite number from 0" if name in from_zero else "a finite number above 0"
            raise InvalidInputError(f"{name} of {type(config).__name__} must be {bound}, got {value!r}.")


def check_shares(config: object, *names: str) -> None:
    """Refuse settings that are not within (0, 1].

    Raises:
        InvalidInputError: One is not.
    """
    check_numbers(config, positive=names)
    for name in names:
        if getattr(config, name) > 1.0:
            raise InvalidInputError(
                f"{name} of {type(config).__name__} is a share, at most 1, got {getattr(config, name)}."
            )


def check_counts(config: object, *names: str) -> None:
    """Refuse settings that are not whole numbers from 1.

    Raises:
        InvalidInputError: One is not.
    """
    for name in names:
        check_count(f"{name} of {type(config).__name__}", getattr(config, name))


def check_choice(config: object, name: str, known: tuple[str, ...]) -> None:
    """Refuse a setting that is not one of some names.

    Raises:
        UnknownOptionError: It is not.
    """
    if getattr(config, name) not in known:
        raise UnknownOptionError.of(f"{name} of {type(config).__name__}", str(getattr(config, name)), known)
