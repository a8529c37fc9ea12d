"""The default policy of the episode trainer: it acts, and says in what state it believes to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from torch import Tensor

from rl_framework.core.trees import Tree
from rl_framework.nn.action_heads import ActionHead
from rl_framework.nn.distributions import Distribution
from rl_framework.nn.memory_model import MemoryModel, MemoryModelConfig
from rl_framework.nn.mlp import MLP
from rl_framework.nn.model import ModelOutput
from rl_framework.nn.policy_network import ACTIVATIONS, HIDDEN_GAIN, OUTPUT_GAIN, initialize
from rl_framework.nn.sizes import as_sizes

ENCODING = "encoding"


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodePolicyConfig(MemoryModelConfig):
    """How a policy with state encodings is built.

    Attributes:
        body_sizes: Number of units of each layer between memory and encoding, which is what the last of them gives;
            without any, the encoding is what encoder and memory give.
        hidden_sizes: Number of units of each layer between encoding and actions.
        normalize_observations: Bring the numbers of float observations to mean 0 and standard deviation 1.
    """

    body_sizes: tuple[int, ...] = (256, 128)
    hidden_sizes: tuple[int, ...] = (64, 64)
    normalize_observations: bool = True

    def __post_init__(self) -> None:
        MemoryModelConfig.__post_init__(self)
        object.__setattr__(self, "body_sizes", as_sizes("body_sizes", self.body_sizes))


class EpisodePolicy(MemoryModel):
    """A policy that gives state encodings, on which a value function of somebody else's stands.

    Encoder, memory (or none) and the layers of the body make the encoding; further layers and a head make actions of
    it. Weights are orthogonal, with a gain of 0.01 for the actions.

    Args:
        observation_space: What is observed.
        action_space: What is done.
        config: How it is built.

    Attributes:
        encoding_size: Number of features of an encoding, d.

    Raises:
        SpaceError: A space is not supported, or empty.

    Source: the initial weights are those of Andrychowicz et al., What Matters in On-Policy Reinforcement Learning?,
    2020 (https://arxiv.org/abs/2006.05990).
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        config: EpisodePolicyConfig | None = None,
    ) -> None:
        config = config or EpisodePolicyConfig()
        super().__init__(observation_space, action_space, config)
        activation = ACTIVATIONS[config.activation]
        self.body = MLP(self.n_features, config.body_sizes, activation)
        self.encoding_size = (self.n_features, *config.body_sizes)[-1]
        self.hidden = MLP(self.encoding_size, config.hidden_sizes, activation)
        self.head = ActionHead(
            (self.encoding_size, *config.hidden_sizes)[-1],
            action_space,
            box_distribution=config.box_distribution,
            log_std_init=config.log_std_init,
            state_dependent_std=config.state_dependent_std,
        )
        for part in (self.encoder, self.body, self.hidden):
            initialize(part, HIDDEN_GAIN)
        initialize(self.head, OUTPUT_GAIN)

    def step(self, observations: Tree, state: Tree = None, masks: Tensor | None = None) -> ModelOutput:
        """One time step; `extras["encoding"]` is the state encoding, `[N, d]`. There is no value."""
        features, state = self.features(observations, state)
        return self._output(features, state, masks)

    def act(self, observations: Tree, state: Tree = None, masks: Tensor | None = None) -> ModelOutput:
        """One time step without the encoding."""
        features, state = self.features(observations, state)
        return ModelOutput(self._distribution(self.body(features), masks), None, state)

    def unroll(self, observations: Tree, state: Tree, starts: Tensor, masks: Tensor | None = None) -> ModelOutput:
        """Consecutive time steps at once; see `Model.unroll`. `extras["encoding"]` is `[L * N, d]`."""
        features, after = self.unrolled_features(observations, state, starts)
        return self._output(features, after, None if masks is None else masks.flatten(0, 1))

    def _output(self, features: Tensor, state: Tree, masks: Tensor | None) -> ModelOutput:
        encoding: Tensor = self.body(features)
        return ModelOutput(self._distribution(encoding, masks), None, state, {ENCODING: encoding})

    def _distribution(self, encoding: Tensor, masks: Tensor | None) -> Distribution:
        return self.head.distribution(self.hidden.into(self.head.linear, encoding), masks)
