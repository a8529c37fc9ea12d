"""Values of every choice of a Discrete: the networks of DQN."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium import spaces
from torch import Tensor, nn

from rl_framework.core.trees import Tree
from rl_framework.errors import SpaceError
from rl_framework.nn.control_features import ControlFeatures, NetworkInputs, Prepared
from rl_framework.nn.network_shape import NetworkShape
from rl_framework.nn.stacked_mlp import StackedMLP


class ActionValues(nn.Module):
    """From observations to the values that E networks give to each choice.

    Args:
        action_space: A Discrete.
        shape: How each network is built.
        features: What they see, with statistics that other networks share.
        n_members: Number of networks, E.
        n_outputs: Number of values that each gives to a choice, K.
        dueling: Whether the last layer tells the value of the state and what choices add to it, rather than the
            values of choices.

    Raises:
        SpaceError: Actions are no choices.

    Source: dueling is that of Wang et al., Dueling Network Architectures, 2016 (https://arxiv.org/abs/1511.06581),
    equation 9, parted at the last layer.
    """

    def __init__(
        self,
        action_space: gym.Space[Any],
        shape: NetworkShape,
        features: ControlFeatures,
        *,
        n_members: int = 1,
        n_outputs: int = 1,
        dueling: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(action_space, spaces.Discrete):
            raise SpaceError(f"Values of choices need a Discrete action space, got {action_space}.")
        self.n_actions, self.n_outputs, self.dueling = int(action_space.n), n_outputs, dueling
        self.inputs = NetworkInputs(features, shape.image_features)
        values = (self.n_actions + int(dueling), n_outputs)
        self.body = StackedMLP.of_shape(n_members, self.inputs.n_features, values, shape)

    def forward(self, observations: Tree | Prepared) -> Tensor:
        """`[N, ...]` per leaf to `[E, N, n_actions, K]`."""
        values: Tensor = self.body(self.inputs(observations))
        if not self.dueling:
            return values
        of_state, added = values[:, :, :1], values[:, :, 1:]
        return of_state + added - added.mean(2, keepdim=True)
