"""Refuses what a broken policy gives, before an environment makes a number of it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rl_framework.core.spaces import leaf_shape, leaf_spaces
from rl_framework.core.trees import Path, Tree, leaves_with_paths, path_name
from rl_framework.errors import SpaceError


class ActionCheck:
    """Checks batches of actions: structure, shapes, kinds of number, no NaN, no choice that does not exist.

    Bounds of Box spaces are the environment's business: many policies step a little outside.

    Args:
        space: The action space.
        n_envs: Number of actions in a batch, B.
    """

    def __init__(self, space: gym.Space[Any], n_envs: int) -> None:
        self._space = space
        self._leaves = [_LeafCheck(path, leaf, n_envs) for path, leaf in leaf_spaces(space)]

    def __call__(self, actions: Tree) -> None:
        """Check one batch. `[B, ...]` per leaf.

        Raises:
            SpaceError: The actions are not of the action space; the message says how.
        """
        given = dict(leaves_with_paths(actions))
        if len(given) != len(self._leaves):
            raise SpaceError(f"The policy gave actions with {len(given)} parts for {self._space}.")
        for check in self._leaves:
            check(given)


class _LeafCheck:
    """The check of one leaf space."""

    def __init__(self, path: Path, leaf: gym.Space[Any], n_envs: int) -> None:
        self._path = path
        self._leaf = leaf
        self._shape = (n_envs, *leaf_shape(leaf))
        self._continuous = isinstance(leaf, spaces.Box) and leaf.dtype.kind == "f"
        self._bounds = None if isinstance(leaf, spaces.Box) else _choices(leaf)

    def __call__(self, given: dict[Path, Any]) -> None:
        if self._path not in given:
            raise SpaceError(f"The policy's actions lack {path_name(self._path)!r}, a {self._leaf}.")
        actions = np.asarray(given[self._path])
        if actions.shape != self._shape:
            self._refuse(f"an array of shape {actions.shape}", f"{self._shape}")
        if actions.dtype.kind not in ("iufb" if self._continuous else "iub"):
            self._refuse(f"{actions.dtype}", "numbers" if self._continuous else "integers")
        if actions.dtype.kind == "f" and not np.isfinite(actions).all():
            self._refuse(f"{actions[~np.isfinite(actions)][0]}", "finite numbers")
        if self._bounds is not None:
            low, high = self._bounds
            outside = (actions < low) | (actions > high)
            if outside.any():
                self._refuse(f"the choice {actions[outside][0]}", "one that exists")

    def _refuse(self, given: str, expected: str) -> None:
        raise SpaceError(
            f"The policy gave {given} as {path_name(self._path)!r} of its actions for {self._leaf}, "
            f"where {expected} was expected."
        )


def _choices(leaf: gym.Space[Any]) -> tuple[Any, Any]:
    """Lowest and highest choice of a discrete leaf space, both inclusive."""
    match leaf:
        case spaces.Discrete():
            return int(leaf.start), int(leaf.start + leaf.n - 1)
        case spaces.MultiDiscrete():
            return leaf.start, leaf.start + leaf.nvec - 1
        case _:
            return 0, 1
