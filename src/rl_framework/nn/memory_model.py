"""What models have in common that see through an encoder and, if wanted, remember."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from torch import Tensor
from typing_extensions import Self

from rl_framework.core.trees import Tree
from rl_framework.errors import InvalidInputError, UnknownOptionError
from rl_framework.nn.encoders import ObservationEncoder
from rl_framework.nn.memory_cores import MemoryCore
from rl_framework.nn.model import Model, flatten_time
from rl_framework.nn.policy_network import PolicyNetworkConfig
from rl_framework.nn.recurrent_cores import GRUCore, LSTMCore, RecurrentCore
from rl_framework.nn.sizes import check_size
from rl_framework.nn.window_attention import WindowAttention

MEMORIES = ("lstm", "gru", "attention")


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryModelConfig(PolicyNetworkConfig):
    """How a policy with or without memory is built.

    Attributes:
        hidden_sizes: Number of units of each hidden layer of the policy.
        memory: What stands between encoder and layers: `lstm`, `gru`, `attention` over the latest observations, or
            None for a policy without memory.
        memory_size: Number of features of the memory.
        memory_layers: Number of its layers.
        window: Number of observations, the current one included, that attention looks at.
        n_heads: Number of attention heads.
        box_distribution: How Box numbers are distributed: `normal`, cut to the bounds, `squashed_normal`, or a name
            given to `register_box_distribution`.
        log_std_init: Logarithm of the standard deviation of Box numbers at first, with [low, high] as [-1, 1].
        state_dependent_std: Whether the standard deviation is an output of the network.
    """

    hidden_sizes: tuple[int, ...] = (64, 64)
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
        if self.memory is not None and self.memory not in MEMORIES:
            raise UnknownOptionError.of("memory", str(self.memory), MEMORIES)
        for name in ("memory_size", "memory_layers", "window", "n_heads"):
            check_size(name, getattr(self, name))
        if not isinstance(self.log_std_init, int | float) or not math.isfinite(self.log_std_init):
            raise InvalidInputError(f"log_std_init must be a finite number, got {self.log_std_init!r}.")

    @classmethod
    def of(cls, value: Self | Mapping[str, Any] | None) -> Self:
        """The configuration that is meant by one, by its fields in a dict, or by None for the defaults.

        Raises:
            UnknownOptionError: A name is not a field.
            InvalidInputError: It is none of them, or a value is out of range.
        """
        if isinstance(value, cls):
            return value
        if value is not None and not isinstance(value, Mapping):
            raise InvalidInputError(f"A network is described by an {cls.__name__} or a dict, got {value!r}.")
        known = cls.__dataclass_fields__
        for name in value or {}:
            if name not in known:
                raise UnknownOptionError.of(f"field of {cls.__name__}", str(name), known)
        return cls(**(value or {}))


class MemoryModel(Model):
    """Base of models with an encoder and a memory behind it, or none; a subclass makes of its features what it needs.

    Args:
        observation_space: What is observed.
        action_space: What is done.
        config: How it is built.

    Attributes:
        encoder: Makes features of observations.
        core: The memory; None without.
        n_features: Number of features that come out of both.

    Raises:
        SpaceError: A space is not supported, or empty.
    """

    def __init__(
        self, observation_space: gym.Space[Any], action_space: gym.Space[Any], config: MemoryModelConfig
    ) -> None:
        super().__init__(observation_space, action_space)
        self.encoder = ObservationEncoder(
            observation_space, image_features=config.image_features, normalize=config.normalize_observations
        )
        self.core = make_core(self.encoder.n_features, config)
        self.n_features = self.encoder.n_features if self.core is None else self.core.n_features

    @property
    def has_memory(self) -> bool:
        """Whether there is a memory between encoder and layers."""
        return self.core is not None

    @property
    def memory_reach(self) -> int | None:
        """How many steps before the current one can matter: those in the window of attention; None for all."""
        return self.core.window - 1 if isinstance(self.core, WindowAttention) else super().memory_reach

    def initial_state(self, n_rows: int) -> Tree:
        """The memory's at the start of an episode, None without one. `[n_rows, ...]` per leaf"""
        return None if self.core is None else self.core.initial_state(n_rows)

    def preferred_rows(self, n_steps: int = 1) -> int:
        """Number of sequences to learn from at once: the memory's own choice, if it has one."""
        if isinstance(self.core, RecurrentCore):
            return self.core.preferred_rows(n_steps)
        return super().preferred_rows(n_steps)

    def remember(self, observations: Tree, state: Tree, starts: Tensor) -> Tree:
        """The memory after consecutive time steps; see `Model.remember`. Layers behind the memory are left out."""
        return self.unrolled_features(observations, state, starts)[1]

    def features(self, observations: Tree, state: Tree) -> tuple[Tensor, Tree]:
        """Features of one time step, `[N, n_features]`, and the memory after it."""
        encoded: Tensor = self.encoder(observations)
        return (encoded, state) if self.core is None else self.core.step(encoded, state)

    def unrolled_features(self, observations: Tree, state: Tree, starts: Tensor) -> tuple[Tensor, Tree]:
        """Features of consecutive time steps, those of a step side by side, `[L * N, n_features]`, and the last memory.

        Args:
            observations: `[L, N, ...]` per leaf
            state: Memory before the first step. `[N, ...]` per leaf
            starts: True where an episode begins. `[L, N]`
        """
        encoded: Tensor = self.encoder(flatten_time(observations))
        if self.core is None:
            return encoded, state
        remembered, state = self.core.unroll(encoded.view(*starts.shape, -1), state, starts)
        return remembered.flatten(0, 1), state


def make_core(n_inputs: int, config: MemoryModelConfig) -> MemoryCore | None:
    """The memory that a configuration asks for."""
    size, n_layers = config.memory_size, config.memory_layers
    match config.memory:
        case "lstm":
            return LSTMCore(n_inputs, size, n_layers=n_layers)
        case "gru":
            return GRUCore(n_inputs, size, n_layers=n_layers)
        case "attention":
            return WindowAttention(n_inputs, size, window=config.window, n_heads=config.n_heads, n_layers=n_layers)
    return None
