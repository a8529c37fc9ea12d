"""A policy network as a `Policy`: NumPy in, NumPy out."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch

from rl_framework.core.policy import BoolArray, PolicyOutput
from rl_framework.core.trees import Tree
from rl_framework.nn.policy_network import PolicyNetwork
from rl_framework.nn.tensors import to_arrays, to_tensors


class NetworkPolicy:
    """Acts as a network without memory says.

    Samples come from torch's global generator, which an evaluation seeds.

    Attributes:
        observation_space: Space of the environment's observations.
        action_space: Space of the environment's actions.
        network: The network.
    """

    def __init__(self, network: PolicyNetwork, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
        self.network = network
        self.observation_space = observation_space
        self.action_space = action_space

    @torch.no_grad()
    def act(
        self,
        observations: Tree,
        state: Tree = None,
        *,
        episode_starts: BoolArray | None = None,  # noqa: ARG002  (the protocol's; there is no memory)
        action_masks: BoolArray | None = None,
        deterministic: bool = False,
    ) -> PolicyOutput:
        """Choose one action per observation; see `rl_framework.core.policy.Policy.act`.

        Masks hold for Discrete, MultiDiscrete and MultiBinary actions that are not part of a Dict or Tuple.
        """
        device = next(self.network.parameters()).device
        masks = None if action_masks is None else torch.as_tensor(action_masks, dtype=torch.bool, device=device)
        distribution = self.network.distribution(to_tensors(observations, device), masks)
        targets = distribution.mode() if deterministic else distribution.sample()
        return PolicyOutput(to_arrays(self.network.head.actions(targets)), state)
