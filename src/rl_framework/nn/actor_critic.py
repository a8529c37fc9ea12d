"""The default model of learners that act and judge: for any observation and action space, with memory or without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from torch import Tensor, nn

from rl_framework.core.trees import Tree
from rl_framework.nn.action_heads import ActionHead
from rl_framework.nn.memory_model import MemoryModel, MemoryModelConfig
from rl_framework.nn.mlp import MLP
from rl_framework.nn.model import ModelOutput
from rl_framework.nn.policy_network import ACTIVATIONS, HIDDEN_GAIN, OUTPUT_GAIN, initialize
from rl_framework.nn.sizes import as_sizes

VALUE_GAIN = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ActorCriticConfig(MemoryModelConfig):
    """How an actor and its critic are built; the memory is shared by both.

    Attributes:
        value_hidden_sizes: Number of units of each hidden layer of the value function, whose layers are its own; None
            for those of the policy.
    """

    value_hidden_sizes: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        MemoryModelConfig.__post_init__(self)
        if self.value_hidden_sizes is not None:
            object.__setattr__(self, "value_hidden_sizes", as_sizes("value_hidden_sizes", self.value_hidden_sizes))


class ActorCritic(MemoryModel):
    """A policy and a value function over one encoder and, if wanted, one memory.

    Weights are orthogonal, with a gain of 0.01 for the actions and 1 for the value.

    Args:
        observation_space: What is observed.
        action_space: What is done.
        config: How it is built.

    Raises:
        SpaceError: A space is not supported, or empty.

    Source: the initial weights are those of Andrychowicz et al., What Matters in On-Policy Reinforcement Learning?,
    2020 (https://arxiv.org/abs/2006.05990), as in Stable-Baselines3.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        config: ActorCriticConfig | None = None,
    ) -> None:
        config = config or ActorCriticConfig()
        super().__init__(observation_space, action_space, config)
        value_sizes = config.hidden_sizes if config.value_hidden_sizes is None else config.value_hidden_sizes
        activation = ACTIVATIONS[config.activation]
        self.hidden = MLP(self.n_features, config.hidden_sizes, activation)
        self.value_hidden = MLP(self.n_features, value_sizes, activation)
        self.head = ActionHead(
            (self.n_features, *config.hidden_sizes)[-1],
            action_space,
            box_distribution=config.box_distribution,
            log_std_init=config.log_std_init,
            state_dependent_std=config.state_dependent_std,
        )
        self.value_head = nn.Linear((self.n_features, *value_sizes)[-1], 1)
        self._encoder_learns = any(parameter.requires_grad for parameter in self.encoder.parameters())
        for part, gain in ((self.encoder, HIDDEN_GAIN), (self.hidden, HIDDEN_GAIN), (self.value_hidden, HIDDEN_GAIN)):
            initialize(part, gain)
        initialize(self.head, OUTPUT_GAIN)
        initialize(self.value_head, VALUE_GAIN)

    @property
    def has_separate_values(self) -> bool:
        """Whether policy and value function share nothing that costs work."""
        return self.core is None and not self._encoder_learns

    def step(self, observations: Tree, state: Tree = None, masks: Tensor | None = None) -> ModelOutput:
        """One time step: distribution, value and memory."""
        features, state = self.features(observations, state)
        return ModelOutput(self._distribution(features, masks), self._values(features), state)

    def act(self, observations: Tree, state: Tree = None, masks: Tensor | None = None) -> ModelOutput:
        """One time step without the value."""
        features, state = self.features(observations, state)
        return ModelOutput(self._distribution(features, masks), None, state)

    def values(self, observations: Tree, state: Tree = None) -> Tensor:
        """What the critic says. `[N]`"""
        return self._values(self.features(observations, state)[0])

    def unroll(self, observations: Tree, state: Tree, starts: Tensor, masks: Tensor | None = None) -> ModelOutput:
        """Consecutive time steps at once; see `Model.unroll`."""
        features, after = self.unrolled_features(observations, state, starts)
        flat_masks = None if masks is None else masks.flatten(0, 1)
        return ModelOutput(self._distribution(features, flat_masks), self._values(features), after)

    def _distribution(self, features: Tensor, masks: Tensor | None) -> Any:
        return self.head.distribution(self.hidden.into(self.head.linear, features), masks)

    def _values(self, features: Tensor) -> Tensor:
        return self.value_hidden.into(self.value_head, features).squeeze(1)
