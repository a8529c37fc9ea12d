"""What a Unity player wrote before it failed, for the error that tells of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from rl_framework.errors import UnityFailure

TAIL_LINES = 30
TAIL_BYTES = 64 * 1024

F = TypeVar("F", bound=UnityFailure)


class PlayerLog:
    """The files into which one player writes.

    Args:
        files: They may be missing; the last is the most telling.
        index: Which of several players it is.
    """

    def __init__(self, files: Sequence[Path] = (), index: int = 0) -> None:
        self.files = tuple(files)
        self.index = index

    def tail(self) -> tuple[str, ...]:
        """The last lines, at most 30: of the last file, and of those before it as far as there is room."""
        lines = [line for file in self.files for line in _last_lines(file)]
        return tuple(lines[-TAIL_LINES:])

    def failure(self, kind: type[F], message: str) -> F:
        """An error of a kind that carries these lines."""
        return kind(message, row=self.index, log_tail=self.tail())


def _last_lines(file: Path) -> list[str]:
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - TAIL_BYTES))
            return stream.read().decode(errors="replace").splitlines()[-TAIL_LINES:]
    except OSError:
        return []
