"""Rows of a replay in files that may be larger than memory, with exact return to earlier moments.

The folder holds one file per number type, a table of contents, and a journal for each moment that is remembered: what
stood in the rows that were written over since. Whoever was killed goes back to such a moment by undoing the journals.
"""

from __future__ import annotations

import gc
import json
import mmap
import os
import secrets
import sys
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rl_framework.checkpoints.file_system import FolderLock, flush
from rl_framework.data.replay_columns import PackedColumns
from rl_framework.data.replay_journal import ReplayJournal
from rl_framework.data.replay_storage import matrix_types
from rl_framework.errors import (
    ArchiveError,
    CorruptArchiveError,
    InvalidInputError,
    MissingArchiveError,
    NewerFormatError,
)

FORMAT_VERSION = 1
TABLE = "replay.json"
FEWEST_MOMENTS, MOST_MOMENTS = 2, 64
JOURNAL_SHARE = 0.5
RECORD_BYTES = 2**22
LOCK_PATIENCE = 2.0


class MappedStorage:
    """Matrices over the pages of files, of which one process at a time has the use.

    Args:
        folder: Where the files are, or will be.
        capacity: Number of rows.
        columns: What they hold.

    Attributes:
        folder: As given, resolved.
        matrices: By the name of their number type, and the marks. `[capacity, width]`

    Raises:
        InvalidInputError: Another replay has the folder open.
    """

    def __init__(self, folder: Path, capacity: int, columns: PackedColumns) -> None:
        self.folder = folder
        self._capacity = capacity
        self._columns = columns
        self._types = matrix_types(columns.widths)
        self._row_bytes = sum(dtype.itemsize * width for dtype, width in self._types.values())
        self._moments: list[str] = []
        self._is_changed = True
        self._kept_until = self._keep_until = 0
        self.matrices: dict[str, Tensor] = {}
        self._maps: dict[str, mmap.mmap] = {}
        self._lock = _locked(folder)
        weakref.finalize(self, self._lock.release)

    @classmethod
    def begin(cls, folder: Path, capacity: int, columns: PackedColumns) -> MappedStorage:
        """Files with rows that hold nothing.

        Raises:
            InvalidInputError: The folder is in use, or holds a replay to which somebody may want to go back.
            ArchiveError: The disk has no room, or refuses.
        """
        storage = cls(folder, capacity, columns)
        with _closed_on_failure(storage):
            storage._make()
        return storage

    @classmethod
    def resume(
        cls, folder: Path, capacity: int, columns: PackedColumns, *, moment: str, total: int, saved_in: str
    ) -> MappedStorage:
        """Files whose rows hold what they held at a moment; later moments are gone.

        Args:
            folder: Where they are.
            capacity: Number of rows.
            columns: What they hold.
            moment: Its name, from `keep_moment`.
            total: Number of rows that had ever been added then.
            saved_in: The folder where they were then.

        Raises:
            MissingArchiveError: There is no replay in the folder.
            InvalidInputError: It is in use, has other columns or another capacity, or cannot go back to that moment.
            CorruptArchiveError: A file is damaged.
            ArchiveError: The disk refuses, or lets nobody write there.
        """
        if not (folder / TABLE).is_file():
            raise MissingArchiveError(
                f"There is no replay in {folder}; it lay in {saved_in} when its state was saved. Give that folder, or "
                "a copy of it; or another folder, or none, and is_saved=False to begin with an empty one."
            )
        storage = cls(folder, capacity, columns)
        with _closed_on_failure(storage):
            storage._go_back(moment, total)
        return storage

    def keep_moment(self, total: int) -> str:
        """Remember this moment, so that one can go back to it, also after a crash; costs what was added since.

        Args:
            total: Number of rows that were ever added.

        Returns:
            Its name. Some of the latest are kept, at least two.

        Raises:
            ArchiveError: The disk refused.
        """
        if self._is_changed or not self._moments:
            self._flush()
            surplus = self._surplus()
            self._write_table([*self._moments[len(surplus) :], secrets.token_hex(8)])
            self._forget(surplus)
            self._keep_from(total)
        return self._moments[-1]

    def before_adding(self, age: int, count: int) -> None:
        """Keep what stood in the rows at the last moment where they are about to be written over, some time ahead."""
        self._is_changed = True
        if age + count <= self._kept_until or self._kept_until >= self._keep_until:
            return
        ahead = max(age + count, self._kept_until + max(1, RECORD_BYTES // self._row_bytes))
        stop = min(ahead, self._keep_until)
        rows = np.arange(self._kept_until, stop, dtype=np.int64) % self._capacity
        self._journal(self._moments[-1]).record(rows, self.matrices)
        self._kept_until = stop

    def before_changing(self, rows: Tensor) -> None:
        """Keep what stands in rows. `[N]`"""
        self._is_changed = True
        if self._moments:
            self._journal(self._moments[-1]).record(np.unique(rows.numpy()), self.matrices)

    def before_cutting(self) -> None:
        """Episodes are about to be ended that run at the last moment: to that moment belongs another state."""
        self._is_changed = True

    def close(self) -> None:
        """Let another process have the folder; the matrices must not be used any more."""
        try:
            self._flush()
        finally:
            self.matrices = {}
            self._maps = {}
            self._lock.release()

    def _make(self) -> None:
        table = self._read_table()
        if table is not None and table["moments"]:
            raise InvalidInputError(
                f"The folder {self.folder} holds the replay of an earlier run. To go on with that run, load its saved "
                "state; for a new run, give another folder, or remove this one."
            )
        for journal in self.folder.glob("journal-*.bin"):
            journal.unlink()
        self._make_files()
        self._open_files()
        self._write_table([])

    def _go_back(self, moment: str, total: int) -> None:
        table = self._read_table()
        if table is None:
            raise MissingArchiveError(f"The replay in {self.folder} was removed while it was opened.")
        self._check_table(table, moment)
        self._open_files()
        kept = table["moments"].index(moment)
        undone = table["moments"][kept:]
        for each in reversed(undone):
            self._journal(each).undo(self.matrices)
        self._flush()
        self._write_table(table["moments"][: kept + 1])
        self._forget(undone)
        self._keep_from(total)

    def _forget(self, moments: Sequence[str]) -> None:
        for moment in moments:
            self._journal(moment).clear()

    def _keep_from(self, total: int) -> None:
        """Whoever adds the row of an age writes over the one that is older by the capacity."""
        self._kept_until, self._keep_until = max(total, self._capacity), total + self._capacity
        self._is_changed = False

    def _surplus(self) -> list[str]:
        """Moments, the oldest first, that are forgotten with the next one: their journals take too much room."""
        granted = JOURNAL_SHARE * self._row_bytes * self._capacity
        sizes = [self._journal(moment).n_bytes for moment in self._moments]
        while len(sizes) >= MOST_MOMENTS or (len(sizes) >= FEWEST_MOMENTS and sum(sizes) > granted):
            sizes.pop(0)
        return self._moments[: len(self._moments) - len(sizes)]

    def _journal(self, moment: str) -> ReplayJournal:
        return ReplayJournal(self.folder / f"journal-{moment}.bin")

    def _check_table(self, table: Mapping[str, Any], moment: str) -> None:
        found = self._columns.difference(table["columns"])
        if table["capacity"] != self._capacity:
            found = f"it has a capacity of {table['capacity']}, expected {self._capacity}"
        if found is not None:
            raise InvalidInputError(f"The replay in {self.folder} does not fit: {found}.")
        if moment not in table["moments"]:
            raise InvalidInputError(
                f"The replay in {self.folder} cannot go back to this saved state: it belongs to another run, or later "
                f"states have taken its place (it can go back to its last {len(table['moments'])}). Load a later state."
            )

    def _read_table(self) -> dict[str, Any] | None:
        try:
            table: dict[str, Any] = json.loads((self.folder / TABLE).read_text(encoding="utf-8"))
            version = int(table["format"])
            if not {"capacity", "columns", "moments"} <= set(table):
                raise KeyError("entries")
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptArchiveError(f"{self.folder / TABLE} is damaged: {error!r}.") from error
        if version > FORMAT_VERSION:
            raise NewerFormatError(
                f"The replay in {self.folder} has the format {version}; this version reads up to {FORMAT_VERSION}."
            )
        return table

    def _write_table(self, moments: list[str]) -> None:
        table = {
            "format": FORMAT_VERSION,
            "capacity": self._capacity,
            "columns": self._columns.to_json(),
            "moments": moments,
        }
        written = self.folder / f".{TABLE}.new"
        try:
            written.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
            flush(written)
            written.replace(self.folder / TABLE)
            flush(self.folder)
        except OSError as error:
            raise ArchiveError(f"The replay's {self.folder / TABLE} cannot be written: {error}.") from error
        self._moments = moments

    def _make_files(self) -> None:
        try:
            for name in self._types:
                with self._path(name).open("wb") as file:
                    _reserve(file.fileno(), self._size(name))
        except OSError as error:
            for name in self._types:
                with suppress(OSError):
                    self._path(name).unlink(missing_ok=True)
            gigabytes = self._row_bytes * self._capacity / 1e9
            raise ArchiveError(
                f"A replay of {self._capacity} rows takes {gigabytes:.2f} GB, which cannot be had in {self.folder}: "
                f"{error.strerror}. Make room, or give a smaller capacity or another folder."
            ) from error

    def _open_files(self) -> None:
        for name, (dtype, width) in self._types.items():
            path = self._path(name)
            if not path.is_file() or path.stat().st_size != self._size(name):
                raise CorruptArchiveError(f"The replay's {path} is missing, or not of {self._size(name)} bytes.")
            try:
                with path.open("r+b") as file:
                    self._maps[name] = mmap.mmap(file.fileno(), self._size(name))
            except OSError as error:
                raise ArchiveError(
                    f"The replay's {path} cannot be opened for writing: {error.strerror}. A replay is not only read: "
                    "copy the folder to where you may write."
                ) from error
            if hasattr(mmap, "MADV_RANDOM"):
                self._maps[name].madvise(mmap.MADV_RANDOM)
            self.matrices[name] = torch.frombuffer(self._maps[name], dtype=dtype).view(self._capacity, width)

    def _flush(self) -> None:
        try:
            for pages in self._maps.values():
                pages.flush()
        except OSError as error:
            raise ArchiveError(f"The replay in {self.folder} cannot be written: {error.strerror}.") from error

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.bin"

    def _size(self, name: str) -> int:
        dtype, width = self._types[name]
        return self._capacity * width * dtype.itemsize


@contextmanager
def _closed_on_failure(storage: MappedStorage) -> Iterator[None]:
    try:
        yield
    except BaseException:
        storage.close()
        raise


def _locked(folder: Path) -> FolderLock:
    """The lock of a folder, which is made if it is not there.

    A replay that nobody uses any more may still hold it until Python has collected it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArchiveError(f"The folder {folder} of the replay cannot be made: {error}.") from error
    lock = FolderLock(folder)
    if sys.platform == "win32" or lock.acquire():
        return lock
    gc.collect()
    if lock.acquire(timeout=LOCK_PATIENCE):
        return lock
    raise InvalidInputError(
        f"Another replay, in this process or another one, has {folder} open. Close it with its close(), wait for the "
        "other process, or give another folder."
    )


def _reserve(descriptor: int, size: int) -> None:
    """Have a file take its room now: a full disk would otherwise end the process when a page is written."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.ftruncate(descriptor, size)
