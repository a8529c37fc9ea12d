"""What the operating system offers for files that must survive a crash: flush, swap in one step, lock."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

AT_FDCWD = -100
RENAME_EXCHANGE = 2
RENAME_SWAP = 2
UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)


def flush_tree(folder: Path) -> None:
    """Have the disk hold every file and folder below, and the folder itself.

    Raises:
        OSError: The disk refused.
    """
    for place, _, files in os.walk(folder):
        for name in files:
            flush(Path(place, name))
        flush(Path(place))


def flush(path: Path) -> None:
    """Have the disk hold one file's content, or one folder's list of names.

    Raises:
        OSError: The disk refused.
    """
    if path.is_symlink() or (sys.platform == "win32" and path.is_dir()):
        return
    descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def exchange(first: Path, second: Path) -> bool:
    """Swap two paths in one step, which no reader and no crash can see half done.

    Returns:
        False where the operating system or the file system cannot do it; nothing was changed then.

    Raises:
        OSError: It can, and failed.
    """
    code = _exchange_call(os.fsencode(first), os.fsencode(second))
    if code is None or code in UNSUPPORTED:
        return False
    if code:
        raise OSError(code, os.strerror(code), str(first), None, str(second))
    return True


def _exchange_call(first: bytes, second: bytes) -> int | None:
    """The error number of the swap, 0 for success, None where the C library has no such function."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform.startswith("linux"):
            failed = library.renameat2(AT_FDCWD, first, AT_FDCWD, second, ctypes.c_uint(RENAME_EXCHANGE))
        elif sys.platform == "darwin":
            failed = library.renamex_np(first, second, ctypes.c_uint(RENAME_SWAP))
        else:
            return None
    except (AttributeError, TypeError, OSError):
        return None
    return ctypes.get_errno() if failed else 0


class FolderLock:
    """A lock on a folder that its holder's death releases; where the system offers none, it is never held.

    Readers share it, so that what they read stays until they are done.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor: int | None = None

    def acquire(self, *, shared: bool = False, timeout: float = 0.0) -> bool:
        """Try to take it.

        Args:
            shared: Together with others that share it.
            timeout: Seconds to wait for those who hold it.

        Returns:
            Whether it is held, and the folder still stands at its path.
        """
        if sys.platform == "win32":
            return False
        with suppress(OSError):
            self._descriptor = os.open(self._folder, os.O_RDONLY)
            mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            held = _lock(self._descriptor, mode, time.monotonic() + timeout)
            if held and os.path.samestat(os.fstat(self._descriptor), self._folder.stat()):
                return True
        self.release()
        return False

    def release(self) -> None:
        """Let others have it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _lock(descriptor: int, mode: int, deadline: float) -> bool:
    while not _lock_now(descriptor, mode):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.002)
    return True


def _lock_now(descriptor: int, mode: int) -> bool:
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def shared_lock(folder: Path, attempts: int = 100) -> Iterator[None]:
    """Hold a share of a folder's lock during a block, if it can be had."""
    lock = FolderLock(folder)
    for _ in range(attempts):
        if not folder.is_dir() or lock.acquire(shared=True, timeout=0.1):
            break
    try:
        yield
    finally:
        lock.release()
