"""An append-only file of JSON values, one per line, that can be read while it is written and survives a kill."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)


class JsonLines:
    """Appends records, each with one system call, so that readers never see half of an old one.

    A line that a kill has torn is closed off when writing goes on, and skipped when reading.

    Args:
        path: The file. It is made with the first record.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._begun = False

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record, at once; no file stays open."""
        line = json.dumps(_plain(record), allow_nan=False, separators=(",", ":")) + "\n"
        with self._opened() as file:
            file.write(line.encode())

    def read(self) -> Iterator[dict[str, Any]]:
        """The records so far, oldest first; those of other processes, too."""
        if not self.path.exists():
            return
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                record = _parse(line)
                if record is not None:
                    yield record
                elif line.endswith(b"\n") and line.strip():
                    _log.warning("Skipped line %d of %s, which was torn by an interruption.", number, self.path)

    def flush(self) -> None:
        """Make sure that the records survive a power cut."""
        if self.path.exists():
            with FileIO(self.path, "a") as file:
                os.fsync(file.fileno())

    def _opened(self) -> FileIO:
        """The file at its end; before the first record, a line that an interruption has torn is closed off."""
        if not self._begun:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists() and _is_torn(self.path):
                with FileIO(self.path, "a") as file:
                    file.write(b"\n")
            self._begun = True
        return FileIO(self.path, "a")


def number_of(value: Any) -> float:
    """A number as `append` wrote it: NaN and infinities are strings, because JSON has none."""
    return float(value)


def _plain(value: Any) -> Any:
    """The value in JSON's own types; what has no such type as its text."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case Mapping():
            return {str(key): _plain(part) for key, part in value.items()}
        case list() | tuple():
            return [_plain(part) for part in value]
    item = getattr(value, "item", None)
    return _plain(item()) if callable(item) and getattr(value, "ndim", None) == 0 else str(value)


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _is_torn(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
