"""A model as a `Policy`: NumPy in, NumPy out."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch

from rl_framework.core.policy import BoolArray, PolicyOutput
from rl_framework.core.trees import Tree, batch_size
from rl_framework.nn.model import Model, reset_rows
from rl_framework.nn.tensors import to_arrays, to_tensors


class NetworkPolicy:
    """Acts as a model says.

    Samples come from torch's global generator, which an evaluation seeds. The memory of a model that has one goes in
    and out as tensors.

    Attributes:
        observation_space: Space of the environment's observations.
        action_space: Space of the environment's actions.
        network: The model.
    """

    def __init__(self, network: Model) -> None:
        self.network = network
        self.observation_space: gym.Space[Any] = network.observation_space
        self.action_space: gym.Space[Any] = network.action_space

    @torch.no_grad()
    def act(
        self,
        observations: Tree,
        state: Tree = None,
        *,
        episode_starts: BoolArray | None = None,
        action_masks: BoolArray | None = None,
        deterministic: bool = False,
    ) -> PolicyOutput:
        """Choose one action per observation; see `rl_framework.core.policy.Policy.act`.

        Masks hold for Discrete, MultiDiscrete and MultiBinary actions that are not part of a Dict or Tuple.
        """
        device = self.network.device
        masks = None if action_masks is None else torch.as_tensor(action_masks, dtype=torch.bool, device=device)
        memory = self._memory(state, episode_starts, batch_size(observations))
        output = self.network.act(to_tensors(observations, device), memory, masks)
        targets = output.distribution.mode() if deterministic else output.distribution.sample()
        return PolicyOutput(to_arrays(self.network.environment_actions(targets)), output.state)

    def _memory(self, state: Tree, episode_starts: BoolArray | None, n_rows: int) -> Tree:
        """The memory to act from, cleared where an episode begins. `[B, ...]` per leaf"""
        if state is None:
            return self.network.initial_state(n_rows)
        if episode_starts is None or not episode_starts.any():
            return state
        return reset_rows(self.network, state, torch.as_tensor(episode_starts, device=self.network.device))
