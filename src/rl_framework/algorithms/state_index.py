"""Discrete observations as row numbers of a table."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from rl_framework.core.spaces import leaf_spaces
from rl_framework.core.trees import Path, Tree, path_name
from rl_framework.errors import SpaceError

IntArray = npt.NDArray[np.int64]


class StateIndex:
    """Numbers the values of a space from 0 to `size - 1`, as the digits of a number with mixed radices.

    Attributes:
        size: How many values the space has.
    """

    def __init__(self, space: gym.Space[Any], limit: int) -> None:
        """Prepare for a space.

        Args:
            space: Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple nest of them.
            limit: How many rows a table may have.

        Raises:
            SpaceError: The space has a leaf that cannot be counted, or more values than `limit`.
        """
        self._space = space
        self._paths = [path for path, _ in leaf_spaces(space)]
        digits = [_digits(path, leaf) for path, leaf in leaf_spaces(space)]
        radices = [int(radix) for _, part in digits for radix in part]
        self.size = math.prod(radices)
        if self.size > limit:
            raise SpaceError(
                f"A table with one row for each value of {space} would have {self.size:,} rows; at most {limit:,} fit. "
                "Make the observations coarser with a wrapper, or take an algorithm with a neural network."
            )
        self._starts = np.concatenate([start for start, _ in digits])
        self._radices = np.array(radices, dtype=np.int64)
        self._weights = np.array([math.prod(radices[place + 1 :]) for place in range(len(radices))], dtype=np.int64)

    def encode(self, observations: Tree) -> IntArray:
        """The row number of each observation. `[B, ...]` per leaf become `[B]`.

        Raises:
            SpaceError: An observation is outside the space.
        """
        columns = [np.asarray(_follow(observations, path), dtype=np.int64) for path in self._paths]
        flat = [column.reshape(len(column), -1) for column in columns]
        values = (flat[0] if len(flat) == 1 else np.concatenate(flat, axis=1)) - self._starts
        outside = (values < 0) | (values >= self._radices)
        if outside.any():
            row = int(outside.any(axis=1).argmax())
            raise SpaceError(f"Observation {row} of the batch is outside {self._space}: {[c[row] for c in columns]}.")
        index: IntArray = values @ self._weights
        return index


def _follow(tree: Tree, path: Path) -> Tree:
    for key in path:
        tree = tree[key]
    return tree


def _digits(path: Path, leaf: gym.Space[Any]) -> tuple[IntArray, IntArray]:
    """Smallest value and number of values of each digit."""
    match leaf:
        case spaces.Discrete():
            return np.array([leaf.start], dtype=np.int64), np.array([leaf.n], dtype=np.int64)
        case spaces.MultiDiscrete():
            return leaf.start.reshape(-1).astype(np.int64), leaf.nvec.reshape(-1).astype(np.int64)
        case spaces.MultiBinary():
            count = math.prod(leaf.shape)
            return np.zeros(count, dtype=np.int64), np.full(count, 2, dtype=np.int64)
    raise SpaceError(
        f"A table needs observations that can be counted (Discrete, MultiDiscrete, MultiBinary, Dict and Tuple nests "
        f"of them), got {leaf} at {path_name(path)!r}. Discretise them with a wrapper, or take an algorithm with a "
        f"neural network."
    )
