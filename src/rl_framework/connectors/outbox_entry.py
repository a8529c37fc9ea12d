"""What waits in the outbox: a push, whole, with the address that it goes to.

```
000000000017-<id>/     one entry; the number is its place in the order
    entry.json         address, message, attempts so far, last error
    folder/            what is pushed
    companions/        what the connector adds to it (reports of the run)
```
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from rl_framework.errors import CorruptArchiveError, NewerFormatError

FORMAT_VERSION = 1
ENTRY_FILE = "entry.json"
FOLDER = "folder"
COMPANIONS = "companions"


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """Where a push goes, in words from which another process can make the connector again.

    Attributes:
        connector: Class of the connector, `module:name`.
        settings: What `from_settings` of that class takes: JSON values, no secrets.
        destination: Names the place for people; pushes to equal destinations keep their order.
    """

    connector: str
    settings: Mapping[str, Any]
    destination: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Push:
    """What a connector is to bring to its service.

    Attributes:
        id: Its name for all times, by which a push that has arrived is recognised.
        folder: What is pushed.
        message: A sentence about it, for people.
        step: None for an agent; for a checkpoint during a training, its timesteps.
        companions: A folder with further files, which go beside the agent's and are not part of it.
        may_have_arrived: Whether an earlier attempt was begun of which nobody knows how it ended.
    """

    id: str
    folder: Path
    message: str | None = None
    step: int | None = None
    companions: Path | None = None
    may_have_arrived: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One push that waits.

    Attributes:
        id: The push's id.
        created: When it was put here, ISO, UTC.
        address: Where it goes.
        message: A sentence about it, for people.
        step: None for an agent; for a checkpoint during a training, its timesteps.
        attempts: How often it was begun to be sent.
        last_error: Why the last attempt failed; None before, and after one that was interrupted.
        path: The entry's folder.
    """

    id: str
    created: str
    address: Address
    message: str | None = None
    step: int | None = None
    attempts: int = 0
    last_error: str | None = None
    path: Path = field(default=Path(), compare=False)

    @property
    def folder(self) -> Path:
        """What is pushed."""
        return self.path / FOLDER

    @property
    def push(self) -> Push:
        """It, as connectors take it."""
        companions = self.path / COMPANIONS
        return Push(
            id=self.id,
            folder=self.folder,
            message=self.message,
            step=self.step,
            companions=companions if companions.is_dir() else None,
            may_have_arrived=self.attempts > 0,
        )

    def write(self, flush: bool = True) -> None:
        """Write `entry.json`, old or new but never half."""
        part = self.path / f".{ENTRY_FILE}.new"
        with part.open("w", encoding="utf-8") as file:
            json.dump(_to_json(self), file, indent=1)
            file.flush()
            if flush:
                os.fsync(file.fileno())
        part.replace(self.path / ENTRY_FILE)

    @classmethod
    def read(cls, path: Path) -> Entry:
        """The entry in a folder.

        Raises:
            CorruptArchiveError: The folder holds no valid entry.
            NewerFormatError: A newer version of this library has written it.
            FileNotFoundError: It has just been sent.
        """
        try:
            content = json.loads((path / ENTRY_FILE).read_text(encoding="utf-8"))
        except ValueError as error:
            raise CorruptArchiveError(f"The entry {path} of the outbox is damaged: {error}") from error
        return _from_json(content, path)


def _to_json(entry: Entry) -> dict[str, Any]:
    values = {item.name: getattr(entry, item.name) for item in fields(Entry) if item.name not in ("path", "address")}
    address = {item.name: getattr(entry.address, item.name) for item in fields(Address)}
    return {"format_version": FORMAT_VERSION, **values, **address, "settings": dict(entry.address.settings)}


def _from_json(content: Any, path: Path) -> Entry:
    version = content.pop("format_version", None) if isinstance(content, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise NewerFormatError(f"The entry {path} of the outbox was written by a newer version of rl_framework.")
    try:
        address = Address(**{item.name: content.pop(item.name) for item in fields(Address)})
        return Entry(**content, address=address, path=path)
    except (TypeError, KeyError, AttributeError) as error:
        raise CorruptArchiveError(f"The entry {path} of the outbox is damaged: {error!r}") from error
