"""Refuses actions that a tensor environment cannot take, without looking at their values."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from rl_framework.core.spaces import leaf_shape, leaf_spaces
from rl_framework.core.trees import Tree, leaves_with_paths, path_name
from rl_framework.errors import InvalidInputError


class TensorActionCheck:
    """Knows the shapes, kinds of numbers and the device of a batch of actions.

    Values are not looked at: on an accelerator that would mean waiting for it in every step.

    Args:
        space: Space of one action.
        n_envs: Number of rows, B.
        device: Where actions have to be.
    """

    def __init__(self, space: gym.Space[Any], n_envs: int, device: torch.device) -> None:
        self._device = device
        self._parts = {
            path: ((n_envs, *leaf_shape(leaf)), np.issubdtype(leaf.dtype, np.floating))
            for path, leaf in leaf_spaces(space)
        }
        self._only = self._parts.get(())

    def __call__(self, actions: Tree) -> None:
        """Refuse actions of another structure, shape, kind of number or device.

        Raises:
            InvalidInputError: The message names the part of the action.
        """
        if self._only is not None and isinstance(actions, Tensor):
            self._check(actions, "value", *self._only)
            return
        given = dict(leaves_with_paths(actions))
        if given.keys() != self._parts.keys():
            expected, got = ([path_name(path) for path in paths] for paths in (self._parts, given))
            raise InvalidInputError(f"Expected actions with the parts {expected}, got {got}.")
        for path, (shape, is_floating) in self._parts.items():
            self._check(given[path], path_name(path), shape, is_floating)

    def _check(self, actions: Any, name: str, shape: tuple[int, ...], is_floating: bool) -> None:
        if not isinstance(actions, Tensor):
            raise InvalidInputError(
                f"Expected actions as a torch tensor for {name!r}, got {type(actions).__name__}. Arrays are taken by "
                "the environment's VectorEnv: TensorVectorEnv(environment)."
            )
        if actions.shape != shape:
            raise InvalidInputError(f"Expected actions of shape {shape} for {name!r}, got {tuple(actions.shape)}.")
        if actions.dtype.is_floating_point != is_floating or actions.dtype.is_complex:
            kind = "floating point numbers" if is_floating else "whole numbers"
            raise InvalidInputError(f"Expected actions that are {kind} for {name!r}, got {actions.dtype}.")
        if actions.device != self._device:
            raise InvalidInputError(
                f"Expected actions on {self._device} for {name!r}, where the environment is, got {actions.device}."
            )
