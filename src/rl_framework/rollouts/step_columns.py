"""Columns of a rollout while they are being filled, one step at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from rl_framework.core.trees import Tree, leaves_with_paths, map_tree

LARGE_STEP = 16 * 2**10


class StepColumn:
    """One quantity, step by step.

    Small steps are kept and put together at the end, which costs the host a tenth of writing each into its place;
    large ones are written at once, so that they are not held twice.

    Args:
        horizon: How many there will be at most.
        place: Where they shall end up, if it fits; fresh memory otherwise. `[T, B, ...]`
        keeps: Whether all are kept as they are, with their graphs of gradients.

    Attributes:
        n_steps: How many there are so far.
    """

    __slots__ = ("_horizon", "_is_written", "_keeps", "_kept", "_place", "n_steps")

    def __init__(self, horizon: int, place: Tensor | None, *, keeps: bool) -> None:
        self.n_steps = 0
        self._horizon = horizon
        self._place = place
        self._keeps = keeps
        self._kept: list[Tensor] = []
        self._is_written = False

    def add(self, step: Tensor) -> None:
        """Take in one step, `[B, ...]`, which nobody writes into any more."""
        if self.n_steps == 0:
            self._prepare(step)
        if self._is_written and self._place is not None:
            self._place[self.n_steps].copy_(step)
        else:
            self._kept.append(step)
        self.n_steps += 1

    def joined(self) -> Tensor:
        """All steps. `[T, B, ...]`"""
        if self._is_written and self._place is not None:
            return self._place[: self.n_steps]
        if self._place is None or self.n_steps < self._horizon:
            return torch.stack(self._kept)
        return torch.stack(self._kept, out=self._place)

    def _prepare(self, step: Tensor) -> None:
        shape = (self._horizon, *step.shape)
        self._is_written = not self._keeps and step.numel() * step.element_size() >= LARGE_STEP
        if self._place is None or self._keeps or not _fits(self._place, shape, step):
            self._place = step.new_empty(shape) if self._is_written else None


class StepColumns:
    """A tree of quantities, step by step.

    Args:
        horizon: How many there will be at most.
        places: Where they shall end up, leaf by leaf, if they fit. `[T, B, ...]`
        keeps: Whether all are kept as they are, with their graphs of gradients.
    """

    __slots__ = ("_columns", "_keeps", "_n_steps", "_only", "_places")

    def __init__(self, n_steps: int, places: Tree, *, keeps: bool) -> None:
        self._n_steps = n_steps
        self._keeps = keeps
        self._places = {} if places is None else dict(leaves_with_paths(places))
        self._columns: Tree = None
        self._only: StepColumn | None = None

    def add(self, step: Tree) -> None:
        """Take in one step. `[B, ...]` per leaf"""
        if self._columns is None:
            self._open(step)
        if self._only is not None:
            self._only.add(step)
        else:
            map_tree(lambda column, leaf: column.add(leaf), self._columns, step)

    def joined(self) -> Tree:
        """All steps; None if there was none. `[T, B, ...]` per leaf"""
        return None if self._columns is None else map_tree(lambda column: column.joined(), self._columns)

    def _open(self, step: Tree) -> None:
        paths = iter([path for path, _ in leaves_with_paths(step)])
        self._columns = map_tree(
            lambda _: StepColumn(self._n_steps, self._places.get(next(paths)), keeps=self._keeps), step
        )
        self._only = self._columns if isinstance(self._columns, StepColumn) else None


def _fits(place: Tensor, shape: tuple[int, ...], step: Tensor) -> bool:
    return place.shape == shape and place.dtype == step.dtype and place.device == step.device
