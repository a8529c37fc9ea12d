"""Whole episodes out of rectangular columns, with what is still running kept for the next columns: index work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rl_framework.core.trees import Tree, leaves, map_tree
from rl_framework.nn.episode_layout import IndexArray

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class EpisodeEnds:
    """Where episodes ended in T steps of B rows, K times.

    Attributes:
        steps: The step with which each ended, in order. `[K]`
        rows: The row in which it did, in order within a step. `[K]`
        last: What was seen last; None if none ended. `[K, ...]` per leaf
    """

    steps: IndexArray
    rows: IndexArray
    last: Tree


class RunningEpisodes:
    """The steps of the episodes that have not ended yet, row by row.

    Args:
        n_rows: Number of environments, B.

    Attributes:
        lengths: Steps of each of them. `[B]`
        steps: Their columns, one row's behind the other's; None while there are none. `[sum(lengths), ...]` per leaf
    """

    def __init__(self, n_rows: int) -> None:
        self.lengths: IndexArray = np.zeros(n_rows, np.int64)
        self.steps: Tree = None

    def take(self, columns: Mapping[str, Tree], ends: EpisodeEnds) -> list[dict[str, Tree]]:
        """Add steps, and take out the episodes that have ended, in the order in which they did.

        Args:
            columns: `observations` and whatever else there is of each step. `[T, B, ...]` per leaf
            ends: Where episodes ended in these steps.

        Returns:
            The columns of each episode, with the last observation as one more. `[length (+ 1), ...]` per leaf
        """
        n_steps, n_before = len(leaves(columns)[0]), int(self.lengths.sum())
        new = map_tree(lambda leaf: leaf.flatten(0, 1), dict(columns))
        known = new if self.steps is None else map_tree(lambda *parts: torch.cat(parts), self.steps, new)
        order, stops = self._by_row(n_steps), np.cumsum(self.lengths + n_steps)
        firsts = stops - self.lengths - n_steps
        behind = firsts[ends.rows] + self.lengths[ends.rows] + ends.steps + 1
        spans = _Spans.of(firsts, ends.rows, behind)
        self.lengths = stops - spans.rest
        self.steps = _picked(known, order[_ranges(spans.rest, stops)])
        return _episodes(known, order, spans, ends, n_before + n_steps * len(self.lengths))

    def state_dict(self) -> dict[str, Any]:
        """As a plain tree."""
        return {"lengths": self.lengths, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Take back what `state_dict` gave, for as many rows, to a device."""
        self.lengths = np.array(state["lengths"], np.int64)
        self.steps = None if state["steps"] is None else map_tree(lambda leaf: leaf.to(device), state["steps"])

    def _by_row(self, n_steps: int) -> IndexArray:
        """Number of each step, if the new ones of all rows follow the old ones step by step; in order of rows."""
        n_rows, n_before = len(self.lengths), int(self.lengths.sum())
        new = n_before + np.arange(n_steps * n_rows).reshape(n_steps, n_rows)
        old = np.split(np.arange(n_before), np.cumsum(self.lengths)[:-1])
        return np.concatenate([part for row in range(n_rows) for part in (old[row], new[:, row])])


@dataclass(frozen=True, slots=True)
class _Spans:
    """Where episodes lie among all steps, row by row.

    Attributes:
        begin: The first step of each episode. `[K]`
        end: The step behind the last. `[K]`
        rest: Of each row, the first step that belongs to no episode that has ended. `[B]`
    """

    begin: IndexArray
    end: IndexArray
    rest: IndexArray

    @classmethod
    def of(cls, firsts: IndexArray, rows: IndexArray, behind: IndexArray) -> _Spans:
        """Spans of episodes that ended in some rows, before the steps `behind`."""
        by_place = np.argsort(behind, kind="stable")
        rest, begin = firsts.copy(), np.empty_like(behind)
        if len(behind):
            row, end = rows[by_place], behind[by_place]
            opens = np.concatenate([[True], row[1:] != row[:-1]])
            begin[by_place] = np.where(opens, firsts[row], np.concatenate([[0], end[:-1]]))
            np.maximum.at(rest, row, end)
        return cls(begin, behind, rest)


def _episodes(known: Tree, order: IndexArray, spans: _Spans, ends: EpisodeEnds, n_known: int) -> list[dict[str, Tree]]:
    """The columns of each episode, in the order of `spans`."""
    if not len(spans.begin):
        return []
    lengths = (spans.end - spans.begin).tolist()
    index = order[_ranges(spans.begin, spans.end)]
    seen = map_tree(lambda *parts: torch.cat(parts), known["observations"], ends.last)
    with_last = np.insert(index, np.cumsum(lengths), n_known + np.arange(len(lengths)))
    columns = {name: column for name, column in known.items() if name != "observations"}
    pieces = _split(_picked(columns, index), lengths)
    observations = _split(_picked(seen, with_last), [length + 1 for length in lengths])
    return [{"observations": seen, **rest} for seen, rest in zip(observations, pieces, strict=True)]


def _ranges(begin: IndexArray, end: IndexArray) -> IndexArray:
    """All numbers from each beginning up to, but not with, its end, one range behind the other."""
    lengths = end - begin
    return np.arange(lengths.sum()) + np.repeat(end - np.cumsum(lengths), lengths)


def _picked(tree: Tree, index: IndexArray) -> Tree:
    """Some entries of each leaf, copied. `[len(index), ...]`"""
    device = leaves(tree)[0].device
    numbers = torch.from_numpy(index).to(device)
    return map_tree(lambda leaf: leaf.index_select(0, numbers), tree)


def _split(tree: Tree, lengths: Sequence[int]) -> list[Any]:
    """A tree for each of some consecutive pieces, as views."""
    split = map_tree(lambda leaf: list(torch.split(leaf, list(lengths))), tree)
    return [map_tree(lambda pieces, at=at: pieces[at], split) for at in range(len(lengths))]
