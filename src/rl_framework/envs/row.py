"""One environment and its bookkeeping: what both back-ends do with each of their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import gymnasium as gym
import numpy as np

from rl_framework.core.policy import BoolArray
from rl_framework.core.reports import EpisodeSummary
from rl_framework.core.spaces import allocate
from rl_framework.core.trees import Tree, select
from rl_framework.envs import masks, state
from rl_framework.envs.batch import (
    StepBatch,
    check_first_observation,
    find_invalid_number,
    observation_writer,
)
from rl_framework.envs.vector_env import EnvSpec, StateLevel
from rl_framework.errors import EnvironmentFailure, InvalidInputError, InvalidNumberError, RLFrameworkError, SpaceError


def describe(env: gym.Env[Any, Any], n_envs: int) -> EnvSpec:
    """What is known about an environment that runs in `n_envs` rows."""
    return EnvSpec(
        n_envs=n_envs,
        observation_space=env.observation_space,
        action_space=env.action_space,
        id=env.spec.id if env.spec is not None else None,
        render_fps=float(env.metadata.get("render_fps") or 30.0),
        has_action_masks=env.has_wrapper_attr(masks.METHOD),
    )


class EnvironmentRow:
    """One environment that opens its next episode by itself, counts, and checks what it is given.

    Attributes:
        env: The environment.
        index: The row's number among those that run side by side.
        steps: Steps begun in the current episode.
        resting: Whether the row's schedule is used up.
        info: The environment's remarks on the last step.
        final: True last observation of the episode that the last step ended, else None.
        summary: What the last step ended, else None.
    """

    def __init__(self, env: gym.Env[Any, Any], index: int) -> None:
        self.env = env
        self.index = index
        self.steps = 0
        self.resting = False
        self.info: Mapping[str, Any] = {}
        self.final: Tree = None
        self.summary: EpisodeSummary | None = None
        self._total = 0.0
        self._seed: int | None = None
        self._schedule: list[int] | None = None
        self._observation: Tree = None
        self._tracker = state.StateTracker(env)
        self._writer = observation_writer(env.observation_space)
        self._is_choice = isinstance(env.action_space, gym.spaces.Discrete)
        self._mask_width = masks.mask_width(env.action_space)
        self._has_mask_method = env.has_wrapper_attr(masks.METHOD)
        self._mask_info: Any = None
        self._reads_mask_info = not self._has_mask_method

    @property
    def has_masks(self) -> bool:
        """Whether `mask` gives masks; one that travels in the info is known after the first reset."""
        return self._has_mask_method or self._mask_info is not None

    def reset(self, seed: int | None, batch: StepBatch) -> None:
        """Open an episode and forget any schedule."""
        self._schedule, self.resting = None, False
        self._open_first(seed, batch)

    def reset_to_schedule(self, seeds: Sequence[int], batch: StepBatch) -> None:
        """Open the first of `len(seeds)` episodes; with none, only show an observation and rest."""
        self._schedule, self.resting = list(seeds[1:]), not seeds
        self._open_first(seeds[0] if seeds else None, batch)

    def step(self, action: Tree, batch: StepBatch) -> None:
        """Take one step and, where it ends the episode, open the next.

        The batch's flags must be False in this row; only an ending writes them.
        """
        self.final = self.summary = None
        if self.resting:
            self._rest(batch)
            return
        self.steps += 1
        try:
            observation, reward, terminated, truncated, self.info = self.env.step(
                int(action) if self._is_choice else action
            )
            reward = float(reward)
            self._total += reward
            batch.rewards[self.index] = reward
            if not isfinite(reward):
                raise InvalidNumberError(f"the reward is {reward}", row=self.index, step=self.steps)
            if terminated or truncated:
                self._finish(observation, bool(terminated), bool(truncated), batch)
            else:
                self._observation = observation
                self._writer.write(batch.observations, self.index, observation)
                if self._reads_mask_info:
                    self._note_mask(self.info)
        except EnvironmentFailure:
            raise
        except Exception as error:
            raise self.failure(error) from error

    def mask(self) -> BoolArray | None:
        """The choices allowed now; None without masks. `[n]`"""
        if not self.has_masks:
            return None
        if self._mask_width is None:
            raise self.failure(SpaceError(f"it gives action masks, but {self.env.action_space} cannot be masked."))
        if self.resting:
            return np.ones(self._mask_width, np.bool_)
        try:
            given = self.env.get_wrapper_attr(masks.METHOD)() if self._has_mask_method else self._mask_info
            return masks.flat_mask(given, self._mask_width)
        except Exception as error:
            raise self.failure(error) from error

    def call(self, name: str, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """Call a method of the environment or of one of its wrappers."""
        method = self.get_attribute(name)
        if not callable(method):
            raise InvalidInputError(f"{name!r} of environment {self.index} is a {type(method).__name__}, not a method.")
        try:
            return method(*arguments, **options)
        except Exception as error:
            raise self.failure(error) from error

    def get_attribute(self, name: str) -> Any:
        """Read an attribute of the environment or of one of its wrappers.

        Raises:
            InvalidInputError: There is none of that name.
        """
        if not self.env.has_wrapper_attr(name):
            raise InvalidInputError(f"Environment {self.index} ({self.env}) has no attribute {name!r}.")
        return self.env.get_wrapper_attr(name)

    def set_attribute(self, name: str, value: Any) -> None:
        """Set an attribute where it is, or on the environment itself if it is new."""
        target = self.env if self.env.has_wrapper_attr(name) else self.env.unwrapped
        target.set_wrapper_attr(name, value)

    def render(self) -> Any:
        """The current picture, `[height, width, 3]`; None without an rgb_array render mode."""
        if self.env.render_mode not in ("rgb_array", "rgb_array_list"):
            return None
        try:
            picture = self.env.render()
        except Exception as error:
            raise self.failure(error) from error
        return picture[-1] if isinstance(picture, list) else picture

    def get_state(self) -> tuple[StateLevel, Any]:
        """Where the row is, as a plain tree."""
        level, tree = self._tracker.capture(self.steps)
        bookkeeping = {
            "steps": self.steps,
            "total": self._total,
            "seed": self._seed,
            "schedule": self._schedule,
            "resting": self.resting,
            "observation": state.plain_observation(self._observation, self.env.observation_space),
            "mask": None if self._mask_info is None else self.mask(),
        }
        return level, {"level": int(level), "environment": tree, "row": bookkeeping}

    def set_state(self, tree: Any, batch: StepBatch) -> None:
        """Put the row back, or open a new episode where it could not be captured.

        Raises:
            EnvironmentFailure: The state is not one of this environment.
        """
        level, row = StateLevel(tree["level"]), tree["row"]
        self._schedule = None if row["schedule"] is None else [int(seed) for seed in row["schedule"]]
        self.resting, self._seed, self.final, self.summary = row["resting"], row["seed"], None, None
        self._mask_info = row["mask"]
        self._reads_mask_info = row["mask"] is not None
        try:
            self._tracker.restore(level, tree["environment"])
        except Exception as error:
            raise self.failure(error) from error
        if level is StateLevel.EXACT:
            self.steps, self._total = int(row["steps"]), float(row["total"])
            self._show(state.observation_from_plain(row["observation"], self.env.observation_space), None, batch)
        else:
            self._reopen(level, row, batch)

    def failure(self, error: Exception) -> Exception:
        """What to raise for an exception that the environment caused."""
        if isinstance(error, EnvironmentFailure):
            return error
        message = str(error) if isinstance(error, RLFrameworkError) else f"{type(error).__name__}: {error}"
        return EnvironmentFailure(message, row=self.index, step=self.steps)

    def _open(self, seed: int | None, batch: StepBatch) -> None:
        self.steps, self._total, self._seed = 0, 0.0, seed
        try:
            self._tracker.before_reset()
            observation, info = self.env.reset(seed=seed)
            self._tracker.after_reset()
        except Exception as error:
            raise self.failure(error) from error
        self._show(observation, info, batch)

    def _reopen(self, level: StateLevel, row: Mapping[str, Any], batch: StepBatch) -> None:
        wanted = level is StateLevel.EPISODE_BOUNDARY or self._schedule is not None
        again = wanted and row["seed"] is not None
        self._open(int(row["seed"]) if again else None, batch)
        self._seed = row["seed"] if again else None

    def _show(self, observation: Tree, info: Mapping[str, Any] | None, batch: StepBatch) -> None:
        self._observation = observation
        try:
            self._writer.write(batch.observations, self.index, observation)
            if info is not None and self._reads_mask_info:
                self._note_mask(info)
        except Exception as error:
            raise self.failure(error) from error

    def _note_mask(self, info: Mapping[str, Any]) -> None:
        mask = info.get(masks.INFO_KEY)
        if mask is None and self._mask_info is not None:
            raise SpaceError(f"it gave info[{masks.INFO_KEY!r}] before, and now it does not.")
        self._mask_info = mask
        self._reads_mask_info = mask is not None

    def _finish(self, observation: Tree, terminated: bool, truncated: bool, batch: StepBatch) -> None:
        """Note the ended episode and open the next one, if there is one."""
        batch.terminated[self.index], batch.truncated[self.index] = terminated, truncated
        success = self.info.get("is_success")
        self.summary = EpisodeSummary(
            row=self.index,
            total_reward=self._total,
            length=self.steps,
            success=None if success is None else bool(success),
            seed=self._seed,
        )
        self.final = self._final_observation(observation)
        if self._schedule is None:
            self._open(None, batch)
        elif self._schedule:
            self._open(self._schedule.pop(0), batch)
        else:
            self.resting = True
            self._show(self.final, None, batch)

    def _final_observation(self, observation: Tree) -> Tree:
        """A checked copy, because `reset` may write into the original."""
        kept = allocate(self.env.observation_space, 1)
        try:
            self._writer.write(kept, 0, observation)
        except SpaceError as error:
            raise self.failure(error) from error
        found = find_invalid_number(kept)
        if found is not None:
            raise InvalidNumberError(found[1], row=self.index, step=self.steps)
        return select(kept, 0)

    def _rest(self, batch: StepBatch) -> None:
        self.info = {}
        batch.rewards[self.index] = 0.0
        self._writer.write(batch.observations, self.index, self._observation)

    def _open_first(self, seed: int | None, batch: StepBatch) -> None:
        self._mask_info, self._reads_mask_info = None, not self._has_mask_method
        self._open(seed, batch)
        try:
            check_first_observation(self.env.observation_space, self._observation)
        except Exception as error:
            raise self.failure(error) from error
