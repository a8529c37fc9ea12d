"""Critics that judge actions of a Box: an ensemble of networks of one shape."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from torch import Tensor, nn

from rl_framework.core.trees import Tree
from rl_framework.nn.control_features import ControlFeatures, NetworkInputs, Prepared
from rl_framework.nn.network_shape import NetworkShape
from rl_framework.nn.stacked_mlp import StackedMLP
from rl_framework.nn.unit_actions import UnitActions


class Critics(nn.Module):
    """From observations and unit actions to the values that E networks give them.

    Pictures are encoded once for all of them.

    Args:
        action_space: A Box with finite bounds.
        shape: How each is built.
        features: What they see, with statistics that other networks share.
        n_members: Number of networks, E.
        n_outputs: Number of values that each gives, K.
    """

    def __init__(
        self,
        action_space: gym.Space[Any],
        shape: NetworkShape,
        features: ControlFeatures,
        *,
        n_members: int = 2,
        n_outputs: int = 1,
    ) -> None:
        super().__init__()
        self.inputs = NetworkInputs(features, shape.image_features)
        n_inputs = self.inputs.n_features + UnitActions(action_space).width
        self.body = StackedMLP.of_shape(n_members, n_inputs, n_outputs, shape)

    def forward(self, observations: Tree | Prepared, actions: Tensor) -> Tensor:
        """Values. `[N, ...]` per leaf, unit actions `[N, A]`, to `[E, N, K]`"""
        values: Tensor = self.body(self.inputs(observations), actions)
        return values

    def judge(self, observations: Tree | Prepared, actions: Tensor, *, members: int | None = None) -> Tensor:
        """As `forward`, with gradients by the actions only, for an actor's step.

        Args:
            observations: `[N, ...]` per leaf
            actions: Unit actions. `[N, A]`
            members: Ask only so many of the networks, E of them; None for all.

        Returns:
            `[E, N, K]`
        """
        return self.body.judge(self.inputs(observations).detach(), actions, members=members)
