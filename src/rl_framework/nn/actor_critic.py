"""The default model of learners that act and judge: for any observation and action space, with memory or without."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from torch import Tensor, nn

from rl_framework.core.trees import Tree
from rl_framework.errors import InvalidInputError, UnknownOptionError
from rl_framework.nn.action_heads import ActionHead
from rl_framework.nn.encoders import ObservationEncoder
from rl_framework.nn.memory_cores import MemoryCore
from rl_framework.nn.mlp import MLP
from rl_framework.nn.model import Model, ModelOutput, flatten_time
from rl_framework.nn.policy_network import (
    ACTIVATIONS,
    HIDDEN_GAIN,
    OUTPUT_GAIN,
    PolicyNetworkConfig,
    initialize,
)
from rl_framework.nn.recurrent_cores import GRUCore, LSTMCore, RecurrentCore
from rl_framework.nn.sizes import as_sizes, check_size
from rl_framework.nn.window_attention import WindowAttention

MEMORIES = ("lstm", "gru", "attention")
VALUE_GAIN = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ActorCriticConfig(PolicyNetworkConfig):
    """How an actor and its critic are built.

    Attributes:
        hidden_sizes: Number of units of each hidden layer of the policy.
        value_hidden_sizes: Likewise of the value function, whose layers are its own; None for those of the policy.
        memory: What stands between encoder and layers: `lstm`, `gru`, `attention` over the latest observations, or
            None for a policy without memory. It is shared by policy and value function.
        memory_size: Number of features of the memory.
        memory_layers: Number of layers of an LSTM or GRU.
        window: Number of observations, the current one included, that attention looks at.
        n_heads: Number of attention heads.
        box_distribution: How Box numbers are distributed: `normal`, cut to the bounds, `squashed_normal`, or a name
            given to `register_box_distribution`.
        log_std_init: Logarithm of the standard deviation of Box numbers at first, with [low, high] as [-1, 1].
        state_dependent_std: Whether the standard deviation is an output of the network.
    """

    hidden_sizes: tuple[int, ...] = (64, 64)
    value_hidden_sizes: tuple[int, ...] | None = None
    memory: str | None = None
    memory_size: int = 128
    memory_layers: int = 1
    window: int = 8
    n_heads: int = 2
    box_distribution: str = "normal"
    log_std_init: float = 0.0
    state_dependent_std: bool = False

    def __post_init__(self) -> None:
        PolicyNetworkConfig.__post_init__(self)
        if self.value_hidden_sizes is not None:
            object.__setattr__(self, "value_hidden_sizes", as_sizes("value_hidden_sizes", self.value_hidden_sizes))
        if self.memory is not None and self.memory not in MEMORIES:
            raise UnknownOptionError.of("memory", str(self.memory), MEMORIES)
        for name in ("memory_size", "memory_layers", "window", "n_heads"):
            check_size(name, getattr(self, name))
        if not isinstance(self.log_std_init, int | float) or not math.isfinite(self.log_std_init):
            raise InvalidInputError(f"log_std_init must be a finite number, got {self.log_std_init!r}.")

    @classmethod
    def of(cls, value: ActorCriticConfig | Mapping[str, Any] | None) -> ActorCriticConfig:
        """The configuration that is meant by one, by its fields in a dict, or by None for the defaults.

        Raises:
            UnknownOptionError: A name is not a field.
            InvalidInputError: It is none of them, or a value is out of range.
        """
        if isinstance(value, ActorCriticConfig):
            return value
        if value is not None and not isinstance(value, Mapping):
            raise InvalidInputError(f"A network is described by an ActorCriticConfig or a dict, got {value!r}.")
        known = cls.__dataclass_fields__
        for name in value or {}:
            if name not in known:
                raise UnknownOptionError.of("field of ActorCriticConfig", str(name), known)
        return cls(**(value or {}))


class ActorCritic(Model):
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
        super().__init__(observation_space, action_space)
        config = config or ActorCriticConfig()
        self.encoder = ObservationEncoder(
            observation_space, image_features=config.image_features, normalize=config.normalize_observations
        )
        self.core = make_core(self.encoder.n_features, config)
        n_features = self.encoder.n_features if self.core is None else self.core.n_features
        value_sizes = config.hidden_sizes if config.value_hidden_sizes is None else config.value_hidden_sizes
        activation = ACTIVATIONS[config.activation]
        self.hidden = MLP(n_features, config.hidden_sizes, activation)
        self.value_hidden = MLP(n_features, value_sizes, activation)
        self.head = ActionHead(
            (n_features, *config.hidden_sizes)[-1],
            action_space,
            box_distribution=config.box_distribution,
            log_std_init=config.log_std_init,
            state_dependent_std=config.state_dependent_std,
        )
        self.value_head = nn.Linear((n_features, *value_sizes)[-1], 1)
        self._encoder_learns = any(parameter.requires_grad for parameter in self.encoder.parameters())
        for part, gain in ((self.encoder, HIDDEN_GAIN), (self.hidden, HIDDEN_GAIN), (self.value_hidden, HIDDEN_GAIN)):
            initialize(part, gain)
        initialize(self.head, OUTPUT_GAIN)
        initialize(self.value_head, VALUE_GAIN)

    @property
    def has_memory(self) -> bool:
        """Whether there is a memory between encoder and layers."""
        return self.core is not None

    @property
    def has_separate_values(self) -> bool:
        """Whether policy and value function share nothing that costs work."""
        return self.core is None and not self._encoder_learns

    def initial_state(self, n_rows: int) -> Tree:
        """The memory's at the start of an episode, None without one. `[n_rows, ...]` per leaf"""
        return None if self.core is None else self.core.initial_state(n_rows)

    def preferred_rows(self, n_steps: int = 1) -> int:
        """Number of sequences to learn from at once: the memory's own choice, if it has one."""
        if isinstance(self.core, RecurrentCore):
            return self.core.preferred_rows(n_steps)
        return super().preferred_rows(n_steps)

    def step(self, observations: Tree, state: Tree = None, masks: Tensor | None = None) -> ModelOutput:
        """One time step: distribution, value and memory."""
        features, state = self._features(observations, state)
        return ModelOutput(self._distribution(features, masks), self._values(features), state)

    def act(self, observations: Tree, state: Tree = None, masks: Tensor | None = None) -> ModelOutput:
        """One time step without the value."""
        features, state = self._features(observations, state)
        return ModelOutput(self._distribution(features, masks), None, state)

    def values(self, observations: Tree, state: Tree = None) -> Tensor:
        """What the critic says. `[N]`"""
        return self._values(self._features(observations, state)[0])

    def unroll(self, observations: Tree, state: Tree, starts: Tensor, masks: Tensor | None = None) -> ModelOutput:
        """Consecutive time steps at once; see `Model.unroll`."""
        flat_masks = None if masks is None else masks.flatten(0, 1)
        if self.core is None:
            return self.step(flatten_time(observations), None, flat_masks)
        encoded = self.encoder(flatten_time(observations)).unflatten(0, starts.shape)
        remembered, state = self.core.unroll(encoded, state, starts)
        features = remembered.flatten(0, 1)
        return ModelOutput(self._distribution(features, flat_masks), self._values(features), state)

    def _features(self, observations: Tree, state: Tree) -> tuple[Tensor, Tree]:
        encoded: Tensor = self.encoder(observations)
        return (encoded, state) if self.core is None else self.core.step(encoded, state)

    def _distribution(self, features: Tensor, masks: Tensor | None) -> Any:
        return self.head.distribution(self.hidden.into(self.head.linear, features), masks)

    def _values(self, features: Tensor) -> Tensor:
        return self.value_hidden.into(self.value_head, features).squeeze(1)


def make_core(n_inputs: int, config: ActorCriticConfig) -> MemoryCore | None:
    """The memory that a configuration asks for."""
    match config.memory:
        case "lstm":
            return LSTMCore(n_inputs, config.memory_size, n_layers=config.memory_layers)
        case "gru":
            return GRUCore(n_inputs, config.memory_size, n_layers=config.memory_layers)
        case "attention":
            return WindowAttention(n_inputs, config.memory_size, window=config.window, n_heads=config.n_heads)
    return None
