"""Pushes that could not be delivered yet: kept whole, sent later, in order, each exactly once.

An entry is written before its first attempt and removed after its service has confirmed it, so that a process that
is killed at any moment loses nothing. Before an attempt its number is noted; a later one of the same entry therefore
knows that the push may have arrived although nobody heard of it, and asks the service first.

```
entries/    one folder per push (see `outbox_entry`); names with a leading dot are being made or removed
locks/      one lock for putting, and one per destination for sending
```
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from rl_framework.checkpoints.file_system import flush, flush_tree
from rl_framework.checkpoints.manifest import utc_now
from rl_framework.connectors.base import Connector
from rl_framework.connectors.outbox_entry import COMPANIONS, FOLDER, Address, Entry, Push
from rl_framework.connectors.process_lock import ProcessLock
from rl_framework.connectors.user_folders import data_folder
from rl_framework.core.references import resolve as resolve_reference
from rl_framework.errors import (
    ArchiveError,
    ConnectorError,
    InvalidInputError,
    RLFrameworkError,
    UnreachableServiceError,
)

VARIABLE = "RL_FRAMEWORK_OUTBOX"
PUT_PATIENCE = 600.0

_log = logging.getLogger(__name__)


class Sender(Protocol):
    """A connector as the outbox sees it."""

    def deliver(self, push: Push) -> str:
        """Bring a push to the service, unless it is there already, and give its place.

        Raises:
            RLFrameworkError: It could not be brought.
        """

    def close(self) -> None:
        """Free what was opened."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """How an attempt to send an entry has ended.

    Attributes:
        entry: The entry as it is now.
        location: Where it went; None if it still waits.
        error: Why it still waits.
    """

    entry: Entry
    location: str | None = None
    error: RLFrameworkError | None = None


class Outbox:
    """A folder of pushes that wait. Any number of processes may use it at once.

    Args:
        folder: Where; `$RL_FRAMEWORK_OUTBOX` unless given, and without that the user's data folder. It is made with
            the first entry.
    """

    def __init__(self, folder: Path | str | None = None) -> None:
        chosen = folder or os.environ.get(VARIABLE) or data_folder() / "outbox"
        self.folder = Path(chosen).expanduser().absolute()
        self._entries = self.folder / "entries"

    def __repr__(self) -> str:
        return f"Outbox({str(self.folder)!r})"

    def put(
        self,
        address: Address,
        folder: Path,
        message: str | None = None,
        *,
        step: int | None = None,
        companions: Path | None = None,
    ) -> Entry:
        """Keep a copy of a push, behind all that wait already.

        The copy shares nothing with the original, which may be changed afterwards.

        Args:
            address: Where it goes.
            folder: What is pushed.
            message: A sentence about it, for people.
            step: None for an agent; for a checkpoint during a training, its timesteps.
            companions: A folder whose files go with it without being part of it.

        Raises:
            ConnectorError: It cannot be kept (full disk, no permission). Nothing of it is left.
        """
        entry = Entry(id=uuid.uuid4().hex, created=utc_now(), address=address, message=message, step=step)
        try:
            with self._lock("put").held(PUT_PATIENCE):
                self._remove_leftovers()
                return self._place(entry, folder, companions)
        except (OSError, shutil.Error) as error:
            raise ConnectorError(
                f"Could not keep {folder} in the outbox {self.folder}: {error}. Make room there, or let ${VARIABLE} "
                "name a folder that can be written."
            ) from error

    def entries(self) -> list[Entry]:
        """What waits, in the order in which it is to be sent. Damaged entries are left out, with a warning."""
        return [entry for _, entry in self._read_all()]

    def discard(self, entry_id: str) -> Entry:
        """Remove an entry without sending it.

        Args:
            entry_id: Its id, or the beginning of it that no other has.

        Raises:
            InvalidInputError: No entry or several begin so.
            ConnectorError: It is being sent at this moment.
        """
        found = [entry for entry in self.entries() if entry_id and entry.id.startswith(entry_id)]
        if len(found) != 1:
            known = ", ".join(entry.id for entry in self.entries()) or "none"
            raise InvalidInputError(f"Expected one entry whose id begins with {entry_id!r}, found {known}.")
        with self._sending(found[0].address.destination).held() as held:
            if not held:
                raise ConnectorError(f"The entry {found[0].id} is being sent to {found[0].address.destination}.")
            self._remove(found[0])
        return found[0]

    def send(self, resolve: Callable[[Entry], Sender] | None = None) -> list[Delivery]:
        """Send what waits now: in order for each destination, until one of its entries fails.

        What waits behind a failed entry is left for later, and not in the answer.

        Args:
            resolve: Gives the connector of an entry; made from the entry's address unless given. Each is closed
                after its entry.

        Returns:
            One delivery per entry that was tried.
        """
        choose = resolve or connector_of
        waiting = self.entries()
        deliveries: list[Delivery] = []
        for destination in dict.fromkeys(entry.address.destination for entry in waiting):
            ids = {entry.id for entry in waiting if entry.address.destination == destination}
            deliveries += self._send_to(destination, choose, ids, patience=0.0)
        return deliveries

    def send_through(self, sender: Sender, entry: Entry, *, patience: float) -> list[Delivery]:
        """Send an entry by the given connector, after those that wait before it for the same destination.

        Args:
            sender: The connector of that destination; it stays open.
            entry: The last one to send.
            patience: Seconds to wait for another process that is sending to the same destination.

        Returns:
            One delivery per entry that was tried; the entry's own is the last, and missing if one before it failed
            or if the other process has sent it meanwhile.
        """
        number = _number_of(entry.path)
        ids = {
            other.id
            for position, other in self._read_all()
            if position <= number and other.address.destination == entry.address.destination
        }
        return self._send_to(entry.address.destination, lambda _: _LeftOpen(sender), ids, patience=patience)

    def _send_to(
        self, destination: str, resolve: Callable[[Entry], Sender], ids: Iterable[str], *, patience: float
    ) -> list[Delivery]:
        wanted = set(ids)
        deliveries: list[Delivery] = []
        with self._sending(destination).held(patience) as held:
            mine = [entry for entry in self.entries() if entry.id in wanted]
            if not held:
                return [_busy(entry) for entry in mine[:1]]
            for entry in mine:
                deliveries.append(self._attempt(entry, resolve))
                if deliveries[-1].location is None:
                    break
        return deliveries

    def _attempt(self, entry: Entry, resolve: Callable[[Entry], Sender]) -> Delivery:
        begun = replace(entry, attempts=entry.attempts + 1, last_error=None)
        try:
            with _closing(resolve(entry)) as sender:
                begun.write()
                location = sender.deliver(entry.push)
        except (RLFrameworkError, OSError) as error:
            return _failure(begun, error)
        self._remove(entry)
        return Delivery(entry=begun, location=location)

    def _place(self, entry: Entry, folder: Path, companions: Path | None) -> Entry:
        """Write it beside the others under a hidden name, and make it visible in one step."""
        hidden = self._entries / f".new-{entry.id}"
        try:
            shutil.copytree(folder, hidden / FOLDER)
            if companions is not None:
                shutil.copytree(companions, hidden / COMPANIONS)
            replace(entry, path=hidden).write(flush=False)
            flush_tree(hidden)
            placed = replace(entry, path=self._entries / f"{self._next_number():012d}-{entry.id}")
            hidden.rename(placed.path)
        except BaseException:
            shutil.rmtree(hidden, ignore_errors=True)
            raise
        flush(self._entries)
        return placed

    def _remove(self, entry: Entry) -> None:
        """Make it invisible in one step; what cannot be deleted then is deleted with the next entry that is put."""
        gone = self._entries / f".gone-{entry.id}"
        entry.path.rename(gone)
        flush(self._entries)
        shutil.rmtree(gone, ignore_errors=True)

    def _remove_leftovers(self) -> None:
        """Remove what a killed process was making or removing; only who holds the lock for putting makes some."""
        for leftover in self._entries.glob(".*-*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def _next_number(self) -> int:
        return max((_number_of(path) for path in self._visible()), default=0) + 1

    def _read_all(self) -> Iterator[tuple[int, Entry]]:
        for path in sorted(self._visible(), key=_number_of):
            entry = _read(path)
            if entry is not None:
                yield _number_of(path), entry

    def _visible(self) -> list[Path]:
        return [path for path in self._entries.glob("[0-9]*-*") if path.name.partition("-")[0].isdecimal()]

    def _sending(self, destination: str) -> ProcessLock:
        return self._lock(hashlib.sha256(destination.encode()).hexdigest()[:24])

    def _lock(self, name: str) -> ProcessLock:
        return ProcessLock(self.folder / "locks" / f"{name}.lock")


def connector_of(entry: Entry, *, trust: Iterable[str] = ()) -> Sender:
    """Make the connector of an entry anew; tokens come from where its service's client finds them.

    Args:
        entry: What is to be sent.
        trust: Modules outside this library whose connectors may be imported.

    Raises:
        UnsafeArchiveError: The entry names something that is no connector, or in a module that is not trusted.
        RLFrameworkError: The connector cannot be made here (an extra is missing, unknown settings).
    """
    reference = entry.address.connector
    found = resolve_reference(reference, trust=tuple(trust))
    if not (isinstance(found, type) and issubclass(found, Connector) and hasattr(found, "from_settings")):
        raise ConnectorError(f"The entry {entry.id} of the outbox names {reference!r}, which is no remote connector.")
    try:
        sender: Sender = found.from_settings(dict(entry.address.settings))
    except TypeError as error:
        raise ConnectorError(f"The entry {entry.id} of the outbox has settings of another version: {error}") from error
    return sender


def _read(path: Path) -> Entry | None:
    """The entry in a folder; None if it has just been sent, or with a warning if it is damaged."""
    try:
        return Entry.read(path)
    except FileNotFoundError:
        return None
    except ArchiveError as error:
        _log.warning("Left out of the outbox: %s", error)
        return None


class _LeftOpen:
    """A connector whose owner closes it."""

    def __init__(self, sender: Sender) -> None:
        self.deliver = sender.deliver

    def close(self) -> None:
        """Leave it open."""


@contextmanager
def _closing(sender: Sender) -> Iterator[Sender]:
    try:
        yield sender
    finally:
        sender.close()


def _failure(begun: Entry, error: RLFrameworkError | OSError) -> Delivery:
    """Note in the entry why it still waits; without a note it is asked for before the next attempt just the same."""
    failed = replace(begun, last_error=str(error))
    with suppress(OSError):
        failed.write()
    if isinstance(error, RLFrameworkError):
        return Delivery(entry=failed, error=error)
    return Delivery(entry=failed, error=ConnectorError(f"The outbox entry {begun.path} cannot be used: {error}"))


def _busy(entry: Entry) -> Delivery:
    place = entry.address.destination
    return Delivery(entry=entry, error=UnreachableServiceError(f"Another process is sending to {place}."))


def _number_of(path: Path) -> int:
    return int(path.name.partition("-")[0])
