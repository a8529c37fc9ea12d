"""The one step contract: many environments side by side, told apart by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from rl_framework.core.policy import BoolArray
from rl_framework.core.reports import EpisodeSummary
from rl_framework.core.trees import Tree


class StateLevel(IntEnum):
    """How exactly environments can be put back to where they were."""

    APPROXIMATE = 0
    EPISODE_BOUNDARY = 1
    EXACT = 2

    def __str__(self) -> str:
        return ("approximate", "exact at episode boundary", "exact")[self]


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvSpec:
    """What is known about the environments before the first step.

    Attributes:
        n_envs: Number of rows, B.
        observation_space: Space of one observation.
        action_space: Space of one action.
        id: Registered id, None if there is none.
        render_fps: Frames per second at which the environment is meant to be watched.
        has_action_masks: Whether `action_masks` gives masks.
        seeds_episodes: Whether each episode can be given its own seed (`reset_to_schedule`).
        row_agents: Name of the agent that each row plays for, None where rows are not agents of one game. `[B]`
        rows_per_game: Number of consecutive rows that belong to one game of several agents and end together.
        n_games: Number of games (copies of a PettingZoo game, players of a Unity game) that the rows belong to, which
            is what `n_envs` counts when they are opened; None where each row is an environment of its own.
    """

    n_envs: int
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    id: str | None = None
    render_fps: float = 30.0
    has_action_masks: bool = False
    seeds_episodes: bool = True
    row_agents: tuple[str, ...] | None = None
    rows_per_game: int = 1
    n_games: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class VectorStep:
    """What one step gave.

    The observation of a row whose episode ended already belongs to its next episode; the ended episode's true
    last observation is in `final`. Arrays are the caller's to keep: the next step does not write into them.

    Attributes:
        observations: `[B, ...]` per leaf
        rewards: `[B]`, float64, as the environment gave them
        terminated: The task ended: nothing follows, do not bootstrap. `[B]`
        truncated: The episode was cut (a time limit): bootstrap from `final`. `[B]`
        final: True last observation of each row whose episode ended in this step.
        infos: The environment's own remarks, one dict per row.
        episodes: Summaries of the episodes that ended in this step.
    """

    observations: Tree
    rewards: npt.NDArray[np.float64]
    terminated: BoolArray
    truncated: BoolArray
    final: Mapping[int, Tree]
    infos: Sequence[Mapping[str, Any]]
    episodes: tuple[EpisodeSummary, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvironmentState:
    """Where the environments are, as a plain tree that can be written to a file.

    Attributes:
        level: How exactly `rows` brings them back.
        rows: One tree per row: numbers, strings, lists, dicts and arrays only.
    """

    level: StateLevel
    rows: tuple[Any, ...]


class VectorEnv(Protocol):
    """Many environments side by side. The verbs are the same for every back-end.

    A row resets itself in the step in which its episode ends. After `reset_to_schedule`, a row whose schedule is
    used up rests: it is not stepped any more, its actions are ignored, its rewards are 0 and nothing is reported
    for it. Every verb raises `EnvironmentFailure` with row and step if an environment raises, dies, hangs, or
    gives a NaN or an infinite number; the vector environment is closed by then.
    """

    @property
    def spec(self) -> EnvSpec:
        """What is known before the first step."""
        ...

    @property
    def action_masks(self) -> BoolArray | None:
        """Allowed actions for the current observations, None if the environments have no masks. `[B, n]`"""
        ...

    def reset(self, seed: int | None = None) -> Tree:
        """Open an episode in every row; row i is seeded with the i-th seed derived from `seed`. `[B, ...]`"""
        ...

    def reset_to_schedule(self, seeds: Sequence[Sequence[int]]) -> Tree:
        """Open an episode in every row; row i plays `len(seeds[i])` episodes, seeded one by one, then rests.

        Raises:
            InvalidInputError: Not one schedule per row, or `spec.seeds_episodes` is False.
        """
        ...

    def send(self, actions: Tree) -> None:
        """Start one step in every row. `[B, ...]`"""
        ...

    def recv(self) -> VectorStep:
        """Wait for the step that `send` started."""
        ...

    def call(self, name: str, *arguments: Any, rows: Sequence[int] | None = None, **options: Any) -> list[Any]:
        """Call a method of the environments (also one of a wrapper) and give its results, row by row."""
        ...

    def get_attribute(self, name: str, rows: Sequence[int] | None = None) -> list[Any]:
        """Read an attribute of the environments (also one of a wrapper), row by row."""
        ...

    def set_attribute(self, name: str, value: Any, rows: Sequence[int] | None = None) -> None:
        """Set an attribute of the environments, on the wrapper that has it."""
        ...

    def render(self, row: int = 0) -> npt.NDArray[np.uint8] | None:
        """The current picture of one row, `[height, width, 3]`; None without an rgb_array render mode."""
        ...

    def get_state(self) -> EnvironmentState:
        """Where the environments are, for `set_state` in this or another process."""
        ...

    def set_state(self, state: EnvironmentState) -> Tree:
        """Put the environments back and give their current observations. `[B, ...]`

        Rows whose state could not be captured start a new episode.
        """
        ...

    def close(self) -> None:
        """Free what this object opened; environments that the caller made stay open. Calling it twice is fine."""
        ...


@runtime_checkable
class ReportsStatistics(Protocol):
    """Environments that measure something of their own: the numbers go into the reports of a training run."""

    def drain_statistics(self) -> Mapping[str, float]:
        """What the environments reported since the last call, by ready names such as `environment/<name>`."""
        ...
