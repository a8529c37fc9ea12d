"""An actor that says what to do, without chance: the policies of DDPG and TD3."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from rl_framework.core.trees import Tree
from rl_framework.nn.control_features import ControlFeatures, NetworkInputs, Prepared
from rl_framework.nn.network_shape import NetworkShape
from rl_framework.nn.stacked_mlp import StackedMLP
from rl_framework.nn.unit_actions import UnitActions


class DeterministicActor(nn.Module):
    """From observations to unit actions.

    Args:
        action_space: A Box with finite bounds.
        shape: How the network is built.
        features: What it sees, with statistics that other networks share.
    """

    def __init__(self, action_space: gym.Space[Any], shape: NetworkShape, features: ControlFeatures) -> None:
        super().__init__()
        self.inputs = NetworkInputs(features, shape.image_features)
        self.body = StackedMLP.of_shape(1, self.inputs.n_features, UnitActions(action_space).width, shape)

    def forward(self, observations: Tree | Prepared) -> Tensor:
        """Unit actions. `[N, ...]` per leaf to `[N, A]`"""
        return torch.tanh(self.body(self.inputs(observations))[0])
