"""Sequences of unequal length, laid one behind the other in rows of equal length, so that little is padded."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IndexArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SequenceLayout:
    """Where E sequences lie in N rows of L steps.

    Attributes:
        lengths: Steps of each sequence. `[E]`
        rows: The row in which it lies. `[E]`
        offsets: The step of that row at which it begins. `[E]`
        n_rows: N.
        n_steps: L.
    """

    lengths: IndexArray
    rows: IndexArray
    offsets: IndexArray
    n_rows: int
    n_steps: int

    @property
    def places(self) -> IndexArray:
        """For each step of the sequences, one behind the other, its number among all, step by step. `[S]`"""
        first = self.offsets * self.n_rows + self.rows
        return np.repeat(first, self.lengths) + self.n_rows * steps_within(self.lengths)

    @property
    def sources(self) -> IndexArray:
        """For each place, the step that lies there; the first step of all where none does. `[L * N]`"""
        found = np.zeros(self.n_steps * self.n_rows, np.int64)
        found[self.places] = np.arange(self.lengths.sum())
        return found

    @property
    def starts(self) -> npt.NDArray[np.bool_]:
        """Where a sequence begins. `[L, N]`"""
        found = np.zeros((self.n_steps, self.n_rows), np.bool_)
        found[self.offsets, self.rows] = True
        return found


def lay_out(lengths: Sequence[int], opens_row: Sequence[bool]) -> SequenceLayout:
    """Find places for sequences: the longest first, each in the row in which the least room is left by it.

    Args:
        lengths: Steps of each sequence, at least 1. `[E]`
        opens_row: Whether it has to be the first of its row. `[E]`

    Returns:
        A layout with rows of the length of the longest sequence.
    """
    longest, n_rows = max(lengths), 0
    order = sorted(range(len(lengths)), key=lambda each: (not opens_row[each], -lengths[each]))
    rows, offsets = np.zeros(len(lengths), np.int64), np.zeros(len(lengths), np.int64)
    left: list[tuple[int, int]] = []
    for each in order:
        length = lengths[each]
        place = bisect_left(left, (length, 0))
        if opens_row[each] or place == len(left):
            room, row = longest, n_rows
            n_rows += 1
        else:
            room, row = left.pop(place)
        rows[each], offsets[each] = row, longest - room
        insort(left, (room - length, row))
    return SequenceLayout(np.asarray(lengths, np.int64), rows, offsets, n_rows, longest)


def steps_within(lengths: IndexArray) -> IndexArray:
    """0, 1, ..., length - 1 for each of some sequences, one behind the other. `[sum(lengths)]`"""
    before = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) - np.repeat(before, lengths)
