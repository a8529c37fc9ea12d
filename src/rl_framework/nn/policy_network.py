"""A network that acts: encoder, hidden layers and action head."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from torch import Tensor, nn

from rl_framework.core.trees import Tree
from rl_framework.errors import InvalidInputError, UnknownOptionError
from rl_framework.nn.action_heads import ActionHead
from rl_framework.nn.distributions import Distribution
from rl_framework.nn.encoders import ObservationEncoder
from rl_framework.nn.mlp import MLP
from rl_framework.nn.model import Model, ModelOutput
from rl_framework.nn.sizes import as_sizes, check_size

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}
HIDDEN_GAIN = math.sqrt(2.0)
OUTPUT_GAIN = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyNetworkConfig:
    """How a policy network is built.

    Attributes:
        hidden_sizes: Number of units of each hidden layer behind the encoder.
        activation: What follows each of them: `tanh`, `relu`, `elu`, `gelu` or `silu`.
        image_features: Number of features that the convolutional network makes of each picture.
        normalize_observations: Bring the numbers of float observations to mean 0 and standard deviation 1.
    """

    hidden_sizes: tuple[int, ...] = (32, 32)
    activation: str = "tanh"
    image_features: int = 512
    normalize_observations: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden_sizes", as_sizes("hidden_sizes", self.hidden_sizes))
        if self.activation not in ACTIVATIONS:
            raise UnknownOptionError.of("activation", str(self.activation), ACTIVATIONS)
        check_size("image_features", self.image_features)
        if not isinstance(self.normalize_observations, bool):
            raise InvalidInputError(
                f"normalize_observations must be True or False, got {self.normalize_observations!r}."
            )


class PolicyNetwork(Model):
    """From observations to distributions over actions.

    Weights are orthogonal, with a gain of 0.01 for the last layer: the policy begins close to uniform, and Box
    actions close to the middle of their bounds.

    Args:
        observation_space: What is observed.
        action_space: What is done.
        config: How it is built.
        has_spread: As for `ActionHead`.

    Raises:
        SpaceError: A space is not supported, or empty.

    Source: the initial weights are those of Andrychowicz et al., What Matters in On-Policy Reinforcement Learning?,
    2020 (https://arxiv.org/abs/2006.05990), as in Stable-Baselines3.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        config: PolicyNetworkConfig,
        *,
        has_spread: bool = True,
    ) -> None:
        super().__init__(observation_space, action_space)
        self.encoder = ObservationEncoder(
            observation_space, image_features=config.image_features, normalize=config.normalize_observations
        )
        self.hidden = MLP(self.encoder.n_features, config.hidden_sizes, ACTIVATIONS[config.activation])
        n_features = (self.encoder.n_features, *config.hidden_sizes)[-1]
        self.head = ActionHead(n_features, action_space, has_spread=has_spread)
        initialize(self, HIDDEN_GAIN)
        initialize(self.head, OUTPUT_GAIN)

    def forward(self, observations: Tree) -> Tensor:
        """The outputs that the head makes a distribution of. `[B, ...]` per leaf to `[B, n_outputs]`"""
        return self.hidden.into(self.head.linear, self.encoder(observations))

    def distribution(self, observations: Tree, masks: Tensor | None = None) -> Distribution:
        """What the network would do, over the head's targets.

        Args:
            observations: As tensors. `[B, ...]` per leaf
            masks: As for `ActionHead.distribution`. `[B, n]`
        """
        return self.head.distribution(self(observations), masks)

    def step(self, observations: Tree, state: Tree = None, masks: Tensor | None = None) -> ModelOutput:
        """One time step, of which it keeps no memory and tells no value."""
        return ModelOutput(self.distribution(observations, masks), state=state)


def initialize(module: nn.Module, gain: float) -> None:
    """Give all layers in a module orthogonal weights of a gain, and no bias."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.orthogonal_(layer.weight, gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
