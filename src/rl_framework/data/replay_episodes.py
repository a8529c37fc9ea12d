"""Which rows of a replay follow each other in an episode.

B environments that step together write B consecutive rows, so that an episode is every B-th row, whether it is over or
not. Each row carries its step in the episode, the last step of the episode (-1 while it runs), and B, the stride.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

IntArray: TypeAlias = npt.NDArray[np.int64]
STEP, LAST, STRIDE = range(3)
RUNNING = -1


class RunningEpisodes:
    """The episodes that go on, one for each environment.

    Ages count the rows that were ever added; the row of an age lies at its remainder by the capacity.

    Args:
        capacity: Number of rows of the replay.

    Attributes:
        starts: Age of the first row of the running episode of each environment, which may be one that is yet to come.
            `[B]`
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.starts: IntArray = np.zeros(0, np.int64)

    @property
    def stride(self) -> int:
        """Number of environments, 0 if there are none."""
        return len(self.starts)

    def are_any(self, total: int) -> bool:
        """Whether an episode has rows and is not over, of the rows that were ever added."""
        return bool((self.starts < total).any())

    def begin(self, total: int, count: int) -> None:
        """Let that many environments begin episodes with the next rows."""
        self.starts = total + np.arange(count, dtype=np.int64)

    def marks(self, total: int) -> Tensor:
        """Marks of the next row of each environment, the first of which has the age `total`. `[B, 3]`, int32"""
        steps = (total + np.arange(self.stride) - self.starts) // self.stride
        return _marks(steps, RUNNING, self.stride)

    def finish(self, marks: Tensor, total: int, over: npt.NDArray[np.bool_]) -> None:
        """End the episodes of some environments with their latest rows; the next ones open new episodes.

        Args:
            marks: Those of all rows, which are written to. `[capacity, 3]`
            total: Number of rows that were ever added.
            over: Which environments. `[B]`
        """
        self._write_last(marks, total, over, self._last_steps(total))
        nexts = total + np.arange(self.stride)
        self.starts = np.where(over, nexts, self.starts)

    def reopen(self, marks: Tensor, total: int) -> None:
        """Mark all running episodes as running, where later rows have ended them."""
        self._write_last(marks, total, np.ones(self.stride, bool), np.full(self.stride, RUNNING))

    def _last_steps(self, total: int) -> IntArray:
        steps: IntArray = (total - 1 - self.starts) // max(1, self.stride)
        return steps

    def _write_last(self, marks: Tensor, total: int, chosen: npt.NDArray[np.bool_], values: IntArray) -> None:
        chosen = chosen & (self.starts < total)
        starts, lasts = self.starts[chosen], self._last_steps(total)[chosen]
        firsts = np.maximum(0, -((starts - max(0, total - self._capacity)) // max(1, self.stride)))
        counts = lasts - firsts + 1
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        ages = np.repeat(starts + self.stride * firsts, counts) + self.stride * within
        rows = torch.from_numpy(ages % self._capacity).to(marks.device)
        written = torch.from_numpy(np.repeat(values[chosen], counts).astype(np.int32)).to(marks.device)
        marks.select(1, LAST).index_copy_(0, rows, written)


def episode_marks(length: int) -> Tensor:
    """Marks of a whole episode whose rows follow each other. `[length, 3]`, int32"""
    return _marks(np.arange(length), length - 1, 1)


def _marks(steps: IntArray, last: int, stride: int) -> Tensor:
    block: npt.NDArray[Any] = np.empty((len(steps), 3), np.int32)
    block[:, STEP], block[:, LAST], block[:, STRIDE] = steps, last, stride
    return torch.from_numpy(block)
