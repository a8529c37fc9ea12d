"""What acts: a policy maps a batch of observations to a batch of actions, with its memory passed in and out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from rl_framework.core.trees import Tree

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PolicyOutput:
    """What a policy did with one batch.

    Attributes:
        actions: Actions in the environment's own units, ready to be stepped. `[B, ...]`
        state: Memory to hand to the next call, None for a policy without memory. `[B, ...]` per leaf
    """

    actions: Tree
    state: Tree


@runtime_checkable
class Policy(Protocol):
    """Anything that acts on batches of observations. Memory is an argument and a result, never hidden."""

    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]

    def act(
        self,
        observations: Tree,
        state: Tree = None,
        *,
        episode_starts: BoolArray | None = None,
        action_masks: BoolArray | None = None,
        deterministic: bool = False,
    ) -> PolicyOutput:
        """Choose one action per observation.

        Args:
            observations: Batch of observations. `[B, ...]`
            state: Memory from the previous call; None starts afresh. `[B, ...]` per leaf
            episode_starts: True for the rows whose observation opens an episode; their memory is cleared. `[B]`
            action_masks: True where a discrete action is allowed; the choices of a MultiDiscrete or
                MultiBinary action lie side by side. `[B, n]`
            deterministic: The most probable action instead of a sampled one.
        """
        ...


@runtime_checkable
class RewardConditioned(Protocol):
    """A policy with memory that also wants to know what its actions earned, as decision transformers do."""

    def with_rewards(self, state: Tree, rewards: npt.NDArray[np.floating[Any]]) -> Tree:
        """The memory after the rewards of its latest actions.

        Args:
            state: What `act` gave. `[B, ...]` per leaf
            rewards: What the environments gave for the actions. `[B]`
        """
        ...
