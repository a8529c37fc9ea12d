"""Policies whose every action is known."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from rl_framework.core.policy import BoolArray, PolicyOutput
from rl_framework.core.trees import Tree, batch_size

Space = gym.Space[Any]
COUNTING_OBSERVATIONS = spaces.Box(0.0, np.inf, (3,), np.float32)


class ConstantPolicy:
    """Gives the same action everywhere and notes what it was asked.

    Args:
        observation_space: Space of the observations.
        action_space: Space of the actions.
        action: What it does.
    """

    def __init__(
        self,
        observation_space: Space = COUNTING_OBSERVATIONS,
        action_space: Space | None = None,
        action: Any = 0,
    ) -> None:
        self.observation_space = observation_space
        self.action_space = spaces.Discrete(2) if action_space is None else action_space
        self.action = action
        self.deterministic: list[bool] = []
        self.calls = 0

    def act(
        self,
        observations: Tree,
        state: Tree = None,
        *,
        episode_starts: BoolArray | None = None,
        action_masks: BoolArray | None = None,
        deterministic: bool = False,
    ) -> PolicyOutput:
        self.calls += 1
        self.deterministic.append(deterministic)
        return PolicyOutput(np.array([self.action] * batch_size(observations)), None)


class RandomPolicy(ConstantPolicy):
    """Draws actions from NumPy's global generator and from its action space, or takes the first one."""

    def act(self, observations: Tree, *arguments: Any, deterministic: bool = False, **options: Any) -> PolicyOutput:
        count = batch_size(observations)
        if deterministic:
            return PolicyOutput(np.zeros(count, np.int64), None)
        flips = np.random.randint(0, 2, count)  # noqa: NPY002  (what policies of other libraries do)
        draws = np.array([self.action_space.sample() for _ in range(count)])
        return PolicyOutput(flips ^ draws, None)


class RecallPolicy:
    """Solves `RecallEnv` by carrying its cue in its memory; without memory or `episode_starts` it cannot."""

    def __init__(self) -> None:
        self.observation_space: Space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space: Space = spaces.Discrete(2)

    def act(
        self,
        observations: npt.NDArray[np.float32],
        state: Tree = None,
        *,
        episode_starts: BoolArray | None = None,
        action_masks: BoolArray | None = None,
        deterministic: bool = False,
    ) -> PolicyOutput:
        memory = np.zeros(len(observations)) if state is None else state.copy()
        if episode_starts is not None:
            memory[episode_starts] = 0.0
        memory += observations[:, 0]
        return PolicyOutput((memory > 0).astype(np.int64), memory)


class MaskedPolicy:
    """Takes the last allowed action; without masks it runs into a wall."""

    def __init__(self) -> None:
        self.observation_space: Space = spaces.Box(0.0, 1.0, (1,), np.float32)
        self.action_space: Space = spaces.Discrete(3)

    def act(
        self,
        observations: Tree,
        state: Tree = None,
        *,
        episode_starts: BoolArray | None = None,
        action_masks: BoolArray | None = None,
        deterministic: bool = False,
    ) -> PolicyOutput:
        masks = np.ones((len(observations), 3), np.bool_) if action_masks is None else action_masks
        return PolicyOutput(2 - np.argmax(masks[:, ::-1], axis=1), None)
