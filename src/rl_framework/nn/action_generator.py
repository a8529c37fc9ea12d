"""Actions like those of a data set: what a policy that must not leave the data chooses among."""

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

LOG_STD_RANGE = (-4.0, 15.0)
LARGEST_CODE = 0.5


class ActionGenerator(nn.Module):
    """A variational autoencoder of actions given observations; codes have twice as many numbers as actions.

    Args:
        action_space: A Box with finite bounds.
        shape: How encoder and decoder are built.
        features: What they see, with statistics that other networks share.

    Attributes:
        n_codes: Numbers of a code, L.

    Source: Fujimoto, Meger & Precup, Off-Policy Deep Reinforcement Learning without Exploration, 2018
    (https://arxiv.org/abs/1812.02900), section 5 and appendix C.
    """

    def __init__(self, action_space: gym.Space[Any], shape: NetworkShape, features: ControlFeatures) -> None:
        super().__init__()
        self.inputs = NetworkInputs(features, shape.image_features)
        width = UnitActions(action_space).width
        self.n_codes = 2 * width
        self.encoder = StackedMLP.of_shape(1, self.inputs.n_features + width, 2 * self.n_codes, shape)
        self.decoder = StackedMLP.of_shape(1, self.inputs.n_features + self.n_codes, width, shape)

    def forward(self, observations: Tree | Prepared, actions: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Actions through their codes and back.

        Args:
            observations: `[N, ...]` per leaf
            actions: `[N, A]`
            noise: Normal numbers. `[N, L]`

        Returns:
            The actions again `[N, A]`, and means and logarithms of standard deviations of the codes, `[N, L]`.
        """
        seen = self.inputs(observations)
        mean, log_std = self.encoder(seen, actions)[0].chunk(2, 1)
        log_std = log_std.clamp(*LOG_STD_RANGE)
        decoded = torch.tanh(self.decoder(seen, mean + noise * log_std.exp())[0])
        return decoded, mean, log_std

    def decode(self, observations: Tree | Prepared, codes: Tensor) -> Tensor:
        """Actions that have some codes. `[N, L]` to `[N, A]`"""
        return torch.tanh(self.decoder(self.inputs(observations), codes.clamp(-LARGEST_CODE, LARGEST_CODE))[0])


class Perturbation(nn.Module):
    """Moves actions a little, to better ones.

    Args:
        action_space: A Box with finite bounds.
        shape: How the network is built.
        features: What it sees, with statistics that other networks share.
        largest: Greatest magnitude by which it moves a number.
    """

    def __init__(
        self, action_space: gym.Space[Any], shape: NetworkShape, features: ControlFeatures, *, largest: float
    ) -> None:
        super().__init__()
        self.inputs = NetworkInputs(features, shape.image_features)
        self.largest = largest
        width = UnitActions(action_space).width
        self.body = StackedMLP.of_shape(1, self.inputs.n_features + width, width, shape)

    def forward(self, observations: Tree | Prepared, actions: Tensor) -> Tensor:
        """Moved actions. `[N, A]` to `[N, A]`"""
        moves = torch.tanh(self.body(self.inputs(observations), actions)[0])
        return (actions + self.largest * moves).clamp(-1.0, 1.0)
