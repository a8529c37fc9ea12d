"""Errors that name the file, and the episode in it, where foreign data cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rl_framework.checkpoints.plain_values import parse_json
from rl_framework.errors import CorruptArchiveError, InvalidInputError, RLFrameworkError


@contextmanager
def reading(path: Path, *errors: type[Exception]) -> Iterator[None]:
    """Turn the errors of a library that reads a file into one that names the file.

    Args:
        path: The file.
        *errors: What the library raises, beside `OSError`, `EOFError` and `KeyError`.

    Raises:
        CorruptArchiveError: Any of these was raised.
    """
    caught: tuple[type[Exception], ...] = (*errors, OSError, EOFError, KeyError)
    try:
        yield
    except RLFrameworkError:
        raise
    except caught as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorruptArchiveError(f"{path} cannot be read; it is damaged, truncated or missing: {reason}.") from error


@contextmanager
def episode_of(path: Path, index: int) -> Iterator[None]:
    """Name the file and the episode where what was read makes no episode.

    Raises:
        InvalidInputError: As inside, with the place in front.
    """
    try:
        yield
    except InvalidInputError as error:
        raise InvalidInputError(f"Episode {index} of {path} is not valid: {error}") from error


def refuse_empty(path: Path, count: int) -> None:
    """Refuse a data set without episodes.

    Raises:
        InvalidInputError: There are none.
    """
    if count < 1:
        raise InvalidInputError(f"The data set {path} holds no episodes.")


def check_length(path: Path, index: int, found: int, expected: int) -> None:
    """Refuse an episode that is not as long as its data set says.

    Raises:
        CorruptArchiveError: It is not.
    """
    if found != expected:
        raise CorruptArchiveError(f"{path} is damaged: episode {index} has {found} steps, expected {expected}.")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object in a file.

    Raises:
        CorruptArchiveError: The file is missing, or holds something else.
    """
    with reading(path):
        found = parse_json(path.read_bytes(), str(path))
    if not isinstance(found, dict):
        raise CorruptArchiveError(f"{path} is damaged: expected a JSON object, found {str(found)[:80]}.")
    return found


def peek_json(path: Path) -> dict[str, Any]:
    """A JSON object in a file, an empty one where there is none; it never raises."""
    try:
        return read_json(path)
    except (RLFrameworkError, OSError, ValueError):
        return {}
