"""A lock between processes that dies with its holder, on every operating system."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

PAUSE_SECONDS = 0.02


class ProcessLock:
    """One holder at a time, among threads and processes; a holder that is killed frees it.

    Args:
        file: An empty file that stands for the lock. It is made when needed, and stays.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    @contextmanager
    def held(self, patience: float = 0.0) -> Iterator[bool]:
        """Try to hold the lock for the length of a block.

        Args:
            patience: Seconds to wait for another holder.

        Yields:
            Whether it is held.

        Raises:
            OSError: The file cannot be made.
        """
        self._file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            yield _wait(descriptor, time.monotonic() + patience)
        finally:
            os.close(descriptor)


def _wait(descriptor: int, deadline: float) -> bool:
    while not _take(descriptor):
        if time.monotonic() >= deadline:
            return False
        time.sleep(PAUSE_SECONDS)
    return True


def _take(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
