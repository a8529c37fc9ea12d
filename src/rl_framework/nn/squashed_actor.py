"""An actor that draws what to do: the policy of SAC."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from rl_framework.core.trees import Tree
from rl_framework.functional.squashed_normal import squashed_sample
from rl_framework.nn.control_features import ControlFeatures, NetworkInputs, Prepared
from rl_framework.nn.network_shape import NetworkShape
from rl_framework.nn.stacked_mlp import StackedMLP
from rl_framework.nn.unit_actions import UnitActions

LOG_STD_RANGE = (-20.0, 2.0)


class SquashedActor(nn.Module):
    """From observations to tanh of normal numbers.

    Densities are those of unit actions: in an environment whose actions have other units they are larger by the sum
    of the logarithms of what one unit is worth there, and a target entropy counts in unit actions too.

    Args:
        action_space: A Box with finite bounds.
        shape: How the network is built.
        features: What it sees, with statistics that other networks share.

    Source: Haarnoja et al., Soft Actor-Critic, 2018 (https://arxiv.org/abs/1801.01290), appendix C.
    """

    def __init__(self, action_space: gym.Space[Any], shape: NetworkShape, features: ControlFeatures) -> None:
        super().__init__()
        self.inputs = NetworkInputs(features, shape.image_features)
        self.n_actions = UnitActions(action_space).width
        self.body = StackedMLP.of_shape(1, self.inputs.n_features, 2 * self.n_actions, shape)

    def forward(self, observations: Tree | Prepared) -> tuple[Tensor, Tensor]:
        """Means of the normal numbers, and logarithms of their standard deviations. `[N, A]` each"""
        mean, log_std = self.body(self.inputs(observations))[0].chunk(2, 1)
        return mean, log_std.clamp(*LOG_STD_RANGE)

    def sample(self, observations: Tree | Prepared, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Unit actions with gradients by the parameters, `[N, A]`, and their log-densities, `[N]`."""
        mean, log_std = self(observations)
        return squashed_sample(mean, log_std, torch.empty_like(mean).normal_(generator=generator))

    def mode(self, observations: Tree | Prepared) -> Tensor:
        """Unit actions of the means. `[N, A]`"""
        return torch.tanh(self(observations)[0])
