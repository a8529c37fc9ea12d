"""Remembers the latest steps of environments that run side by side, as long as a row still needs them."""

from __future__ import annotations

from collections import deque
from itertools import islice

import numpy as np

from rl_framework.core.trees import Tree, leaves, map_tree

BLOCK_BYTES = 2**20
MOST_STEPS = 256


class StepHistory:
    """Batches `[B, ...]` of consecutive steps, from which whole episodes of one row are taken.

    They lie in blocks of some steps each, so that one step costs one copy per array whatever the number of rows, and
    old steps go as soon as no row needs them.

    Attributes:
        n_steps: Number of steps that were ever added.
    """

    def __init__(self) -> None:
        self.n_steps = 0
        self._blocks: deque[Tree] = deque()
        self._block_steps = 0
        self._forgotten = 0

    def add(self, batch: Tree) -> None:
        """Copy the batch of one step. `[B, ...]` per leaf"""
        if not self._block_steps:
            size = sum(leaf.nbytes for leaf in leaves(batch))
            self._block_steps = int(np.clip(BLOCK_BYTES // max(1, size), 1, MOST_STEPS))
        place = self.n_steps % self._block_steps
        if place == 0:
            steps = self._block_steps
            self._blocks.append(map_tree(lambda leaf: np.empty((steps, *leaf.shape), leaf.dtype), batch))
        for block, leaf in zip(leaves(self._blocks[-1]), leaves(batch), strict=True):
            block[place] = leaf
        self.n_steps += 1

    def take(self, row: int, start: int) -> Tree:
        """Copies of one row's entries from step number `start` to the latest. `[T, ...]` per leaf"""
        first = start // self._block_steps - self._forgotten
        after = self.n_steps - (self._forgotten + len(self._blocks) - 1) * self._block_steps
        parts = list(islice(self._blocks, first, None))
        bounds = [[0, self._block_steps] for _ in parts]
        bounds[0][0], bounds[-1][1] = start % self._block_steps, after
        return map_tree(
            lambda *found: np.concatenate([one[low:high, row] for one, (low, high) in zip(found, bounds, strict=True)]),
            *parts,
        )

    def forget(self, before: int) -> None:
        """Let go of the steps before a number, which nobody will ask for."""
        while self._blocks and (self._forgotten + 1) * self._block_steps <= before:
            self._blocks.popleft()
            self._forgotten += 1
