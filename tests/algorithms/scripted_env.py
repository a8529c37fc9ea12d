"""Environments with few states, whose every step is written down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rl_framework.envs.serial import SerialVectorEnv

N_STATES = 6


@dataclass(frozen=True)
class Step:
    """What a step gives, whatever the action is."""

    observation: int
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False


class ScriptedEnv(gym.Env[np.int64, np.int64]):
    """Plays a script over and over; each episode opens in `start`.

    Args:
        steps: One after the other.
        start: First observation of each episode.
        masks: Allowed actions per observation, None without masks.
        action_space: Space of the actions.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        start: int = 0,
        masks: dict[int, list[bool]] | None = None,
        action_space: spaces.Discrete | None = None,
    ) -> None:
        self.observation_space = spaces.Discrete(N_STATES)
        self.action_space = action_space or spaces.Discrete(2)
        self.steps, self.start, self.masks = tuple(steps), start, masks
        self.position = 0
        self.state = start
        self.actions: list[int] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.int64, Any]:
        super().reset(seed=seed)
        self.state = self.start
        return np.int64(self.state), self._info()

    def step(self, action: np.int64) -> tuple[np.int64, float, bool, bool, Any]:
        self.actions.append(int(action))
        step = self.steps[self.position % len(self.steps)]
        self.position += 1
        self.state = step.observation
        return np.int64(self.state), step.reward, step.terminated, step.truncated, self._info()

    def _info(self) -> dict[str, Any]:
        if self.masks is None:
            return {}
        return {"action_mask": np.array(self.masks.get(self.state, [True, True]), dtype=np.int8)}


def rows(*environments: gym.Env[Any, Any]) -> SerialVectorEnv:
    return SerialVectorEnv(environments, owned=True)
