"""An actor that does the same thing everywhere, and workshops in which exploration is set up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rl_framework.algorithms.goal_selection.goal_configs import AchievedConfig
from rl_framework.algorithms.goal_selection.goal_selection import GoalSelection
from rl_framework.algorithms.parts import Experience, Part, Parts, Workshop
from rl_framework.core.trees import Tree
from rl_framework.envs.vector_env import EnvSpec

CPU = torch.device("cpu")
NUMBERS = spaces.Box(-2.0, 2.0, (3,), np.float32)
CHOICES = spaces.Discrete(5)


class SameEverywhere:
    """Always acts in one way, and notes whether it was asked for its best.

    Args:
        action: What it does, for one row.
    """

    def __init__(self, action: Tensor) -> None:
        self._action = action
        self.asked: list[bool] = []

    def act(self, observations: Tree, *, deterministic: bool, generator: torch.Generator) -> Tensor:
        self.asked.append(deterministic)
        return self._action.expand(len(observations), *self._action.shape).clone()


class AlreadyThere(GoalSelection):
    """Says by how much random actions become likelier.

    Args:
        extra: `[B]`
    """

    needs = ()

    def __init__(self, extra: Tensor) -> None:
        self._extra = extra
        self.config = AchievedConfig()

    def set_up(self, workshop: Workshop) -> None:
        pass

    @property
    def extra_epsilon(self) -> Tensor:
        return self._extra


def workshop(action_space: gym.Space[Any], parts: Mapping[str, Part]) -> Workshop:
    joined = Parts(parts)
    shop = Workshop(
        spec=EnvSpec(n_envs=4, observation_space=spaces.Box(-1.0, 1.0, (2,), np.float32), action_space=action_space),
        device=CPU,
        generator=torch.Generator().manual_seed(0),
        gammas=(0.99,),
        goal_reward=None,
        parts=joined,
    )
    joined.set_up(shop)
    return shop


def observations(n: int) -> Tensor:
    return torch.zeros(n, 2)


def experience(n: int, ended: Tensor | None = None) -> Experience:
    over = torch.zeros(n, dtype=torch.bool) if ended is None else ended
    return Experience(
        observations=observations(n),
        actions=torch.zeros(n, 3),
        rewards=torch.zeros(n),
        next_observations=observations(n),
        terminated=torch.zeros(n, dtype=torch.bool),
        truncated=over,
        following=observations(n),
    )
