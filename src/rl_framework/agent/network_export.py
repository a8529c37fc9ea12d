"""The deterministic policy of one of this library's networks, from raw observations to actions, to be exported."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from rl_framework.core.spaces import map_space
from rl_framework.core.trees import Path, Tree, leaves, leaves_with_paths, path_name, stack
from rl_framework.export.onnx import Arrays, OnnxNetwork
from rl_framework.nn.model import Model
from rl_framework.nn.network_policy import NetworkPolicy

OBSERVATION = "observation"
ACTIONS = "actions"
EXAMPLE_ROWS = 11


def exported_network(policy: NetworkPolicy) -> OnnxNetwork:
    """A policy's deterministic actions as a network to export.

    Its inputs are one raw observation entry each, named by their path (`camera.left`; `observation` if there is only
    one, without a name of its own); its outputs are `actions`, or `actions.<path>` for each entry of a Dict or Tuple.
    """
    observations = _examples(policy.observation_space)
    right = policy.act(observations, deterministic=True).actions
    return OnnxNetwork(
        module=DeterministicNetwork(policy.network, policy.observation_space),
        inputs=_named(observations, OBSERVATION, is_prefix=False),
        outputs=_named(right, ACTIONS, is_prefix=True),
    )


class DeterministicNetwork(nn.Module):
    """From the leaves of observations to the leaves of actions.

    Args:
        network: The policy's network.
        observation_space: How the leaves of observations are nested.
    """

    def __init__(self, network: Model, observation_space: gym.Space[Any]) -> None:
        super().__init__()
        self.network = network
        self._space = observation_space

    def forward(self, *entries: Tensor) -> tuple[Tensor, ...]:
        """Leaves of actions `[B, ...]` for leaves of raw observations `[B, ...]`, both in visiting order."""
        given = iter(entries)
        observations = map_space(lambda _: _as_float32(next(given)), self._space)
        targets = self.network.act(observations).distribution.mode()
        return tuple(leaves(self.network.environment_actions(targets)))


def _as_float32(entry: Tensor) -> Tensor:
    return entry.float() if entry.dtype == torch.float64 else entry


def _examples(space: gym.Space[Any]) -> Tree:
    """Observations from a copy of the space, whose own generator stays as it is. `[EXAMPLE_ROWS, ...]`"""
    source = copy.deepcopy(space)
    source.seed(0)
    return stack([source.sample() for _ in range(EXAMPLE_ROWS)])


def _named(tree: Tree, root: str, *, is_prefix: bool) -> Arrays:
    def name(path: Path) -> str:
        if not path:
            return root
        return f"{root}.{path_name(path)}" if is_prefix else path_name(path)

    return {name(path): np.asarray(leaf) for path, leaf in leaves_with_paths(tree)}
