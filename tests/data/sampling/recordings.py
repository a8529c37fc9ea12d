"""Replays of which the tests know every step: goals say whose they are, and from which step of which episode."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rl_framework.data.replay_buffer import ReplayBuffer
from rl_framework.data.replay_columns import transition_columns
from rl_framework.data.sampling.selection import Selected

ACHIEVED, PURSUED, ASKED = 0.0, 1.0, 2.0
"""First entry of each goal; the others are the episode and the step."""
GOALS = spaces.Box(-np.inf, np.inf, (3,), np.float32)
OBSERVATIONS = spaces.Dict(
    {"observation": spaces.Box(-np.inf, np.inf, (2,), np.float32), "achieved_goal": GOALS, "desired_goal": GOALS}
)
ACTIONS = spaces.Box(-1.0, 1.0, (1,), np.float32)


@dataclass(frozen=True)
class Step:
    """One recorded step of an episode."""

    episode: int
    step: int
    reward: float
    terminated: bool
    ended: bool


@dataclass
class Recording:
    """A replay that environments of random episode lengths have filled, and all that was ever added to it.

    Ages count the steps that were ever added.
    """

    replay: ReplayBuffer
    steps: list[Step] = field(default_factory=list)
    ages: dict[tuple[int, int], int] = field(default_factory=dict)

    def step(self, row: int) -> Step:
        """What a row holds."""
        return self.steps[self.age(row)]

    def age(self, row: int) -> int:
        newest = len(self.steps) - 1
        return newest - (newest - row) % self.replay.capacity

    def following(self, age: int) -> int | None:
        """Age of the next step of the same episode, None if there is none so far."""
        here = self.steps[age]
        return self.ages.get((here.episode, here.step + 1))

    def later(self, age: int) -> list[int]:
        """A step and all later ones of its episode."""
        found = [age]
        while (following := self.following(found[-1])) is not None:
            found.append(following)
        return found


class EveryRow:
    """A selection for tests: the stored rows in their order, again and again."""

    def __init__(self, replay: ReplayBuffer) -> None:
        self._replay = replay

    def select(self, n: int, generator: torch.Generator) -> Selected:
        return Selected(rows=torch.arange(n, device=self._replay.device) % len(self._replay))

    def added(self, rows: Tensor) -> None: ...

    def update_priorities(self, rows: Tensor, errors: Tensor) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def record(*, episodes: int, capacity: int, n_envs: int = 3, longest: int = 12, seed: int = 0) -> Recording:
    """Step environments until some episodes are over; the others still run.

    Episodes have 1 to `longest` steps, and are terminated or truncated.
    """
    rng = np.random.default_rng(seed)
    recording = Recording(ReplayBuffer(capacity, transition_columns(OBSERVATIONS, ACTIONS, GOALS)))
    running = [(episode, 0, rng.integers(1, longest + 1)) for episode in range(n_envs)]
    begun, over = n_envs, 0
    while over < episodes:
        lasts = np.array([step == length - 1 for _, step, length in running])
        steps = [
            Step(episode, step, float(rng.normal()), terminated=bool(last and rng.random() < 0.5), ended=bool(last))
            for (episode, step, _), last in zip(running, lasts, strict=True)
        ]
        for step in steps:
            recording.ages[step.episode, step.step] = len(recording.steps)
            recording.steps.append(step)
        recording.replay.add(_entries(steps), ended=lasts)
        over += int(lasts.sum())
        for env, last in enumerate(lasts):
            episode, step_index, length = running[env]
            running[env] = (begun, 0, rng.integers(1, longest + 1)) if last else (episode, step_index + 1, length)
            begun += int(last)
    return recording


def _entries(steps: list[Step]) -> dict[str, Any]:
    def observations(later: int) -> dict[str, Any]:
        return {
            "observation": np.array([(each.episode, each.step + later) for each in steps], np.float32),
            "achieved_goal": goals(ACHIEVED, steps, later=later),
            "desired_goal": goals(PURSUED, steps),
        }

    return {
        "observations": observations(0),
        "next_observations": observations(1),
        "actions": np.array([[each.reward / 10] for each in steps], np.float32),
        "rewards": np.array([each.reward for each in steps], np.float32),
        "terminated": np.array([each.terminated for each in steps]),
        "environment_goals": goals(ASKED, steps),
    }


def goals(kind: float, steps: list[Step], *, later: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Goals of a kind that belong to steps. `[N, 3]`"""
    return np.array([(kind, each.episode, each.step + later) for each in steps], np.float32)


def reward(achieved: Tensor, desired: Tensor) -> Tensor:
    """0 where the goal is reached, -1 elsewhere."""
    return -((achieved - desired).square().sum(-1) > 0.05**2).float()


def distance_reward(achieved: Tensor, desired: Tensor) -> Tensor:
    """0 where the goal is no more than two steps away, -1 elsewhere, as in environments with tolerance."""
    return -((achieved - desired).square().sum(-1) > 2.05**2).float()
