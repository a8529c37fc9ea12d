"""Arrays that several processes read and write: one memory-mapped file, gone from the disk once all have mapped it."""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from rl_framework.core.policy import BoolArray
from rl_framework.core.spaces import leaf_shape, map_space
from rl_framework.core.trees import Tree
from rl_framework.envs.batch import StepBatch
from rl_framework.envs.masks import mask_width

Space = gym.Space[Any]

_ALIGNMENT = 64
_MEMORY_FOLDER = Path("/dev/shm")  # noqa: S108  The file in it has a name of its own and is ours alone.


@dataclass(frozen=True, slots=True)
class SharedArrays:
    """What goes to and fro in a step.

    Attributes:
        batch: What the rows give.
        actions: What the rows are to do. `[B, ...]` per leaf
        masks: Allowed actions, None where the action space has no masks. `[B, n]`
    """

    batch: StepBatch
    actions: Tree
    masks: BoolArray | None


def create_shared_file(observation_space: Space, action_space: Space, count: int) -> Path:
    """A file of the size that `map_shared_file` needs, in memory where the system offers that."""
    size = _Cursor(None).place(observation_space, action_space, count)[1]
    if _MEMORY_FOLDER.is_dir():
        with contextlib.suppress(OSError):  # It may be full, or closed to us; a file on the disk serves, too.
            return _create_file(size, _MEMORY_FOLDER)
    return _create_file(size, Path(tempfile.gettempdir()))


def map_shared_file(path: Path, observation_space: Space, action_space: Space, count: int) -> SharedArrays:
    """The file's content as arrays; every process that maps it sees what the others write."""
    with path.open("r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    return _Cursor(memory).place(observation_space, action_space, count)[0]


def remove_file(path: Path) -> bool:
    """Remove the file; False where the system keeps it as long as it is mapped (Windows)."""
    try:
        path.unlink(missing_ok=True)
    except PermissionError:
        return False
    return True


class _Cursor:
    """Lays arrays out one after the other; without memory it only measures."""

    def __init__(self, memory: mmap.mmap | None) -> None:
        self._memory = memory
        self._offset = 0

    def place(self, observation_space: Space, action_space: Space, count: int) -> tuple[SharedArrays, int]:
        """The arrays, and their size in bytes."""
        width = mask_width(action_space)
        batch = StepBatch(
            self._tree(observation_space, count),
            self._array((count,), np.dtype(np.float64)),
            self._array((count,), np.dtype(np.bool_)),
            self._array((count,), np.dtype(np.bool_)),
        )
        actions = self._tree(action_space, count)
        masks = None if width is None else self._array((count, width), np.dtype(np.bool_))
        return SharedArrays(batch, actions, masks), self._offset

    def _tree(self, space: Space, count: int) -> Tree:
        return map_space(lambda leaf: self._array((count, *leaf_shape(leaf)), np.dtype(leaf.dtype)), space)

    def _array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        size = int(np.prod(shape)) * dtype.itemsize
        begin = self._offset
        self._offset += -(-max(size, 1) // _ALIGNMENT) * _ALIGNMENT
        if self._memory is None:
            return np.empty(0, dtype)
        return np.frombuffer(self._memory, dtype, int(np.prod(shape)), begin).reshape(shape)


def _create_file(size: int, folder: Path) -> Path:
    descriptor, name = tempfile.mkstemp(prefix="rl_framework-", dir=folder)
    path = Path(name)
    with _closing(descriptor), _removed_on_failure(path):
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)  # Fails now if there is no room, instead of a crash later.
        else:
            os.truncate(descriptor, size)
    return path


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _removed_on_failure(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError:
        path.unlink(missing_ok=True)
        raise
