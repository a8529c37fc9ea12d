"""Environments whose rewards come from a function that was learned, instead of from themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from typing_extensions import override

from rl_framework.core.trees import Tree, leaves, map_tree
from rl_framework.errors import InvalidInputError

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class RewardFunction(Protocol):
    """What transitions are worth."""

    def __call__(
        self, observations: Tree, actions: Tree, next_observations: Tree, dones: BoolArray, steps: IntArray, /
    ) -> FloatArray:
        """Rewards of a batch of transitions.

        Args:
            observations: What was seen. `[B, ...]`
            actions: What was done. `[B, ...]`
            next_observations: What was seen next; of an episode that ended, its true last observation. `[B, ...]`
            dones: Whether the episode ended. `[B]`
            steps: Number of steps of the episode before this one. `[B]`
        """
        ...


class TransitionListener(Protocol):
    """Who sees each step as the environments gave it."""

    def add(
        self, observations: Tree, actions: Tree, next_observations: Tree, rewards: FloatArray, dones: BoolArray
    ) -> None:
        """Take in one step.

        Args:
            observations: What was seen. `[B, ...]`
            actions: What was done. `[B, ...]`
            next_observations: What was seen next, ends of episodes included. `[B, ...]`
            rewards: The environments' own. `[B]`
            dones: Whether the episode ended. `[B]`
        """
        ...

    def drop(self, rows: BoolArray) -> None:
        """The current episodes of some rows go no further. `[B]`"""
        ...


class LearnedRewardVecEnv(VecEnvWrapper):
    """Replaces rewards, and counts the steps of episodes.

    The library's own wrapper opens episodes when it is made, and does not tell the reward the time.

    Attributes:
        observations: Current observations, None before the first episode. `[B, ...]`
        steps: Steps of the current episodes so far. `[B]`
        returns: What the current episodes earned so far, in learned rewards. `[B]`
    """

    def __init__(self, venv: VecEnv, reward: RewardFunction, listener: TransitionListener | None = None) -> None:
        super().__init__(venv)
        self.observations: Tree = None
        self.steps: IntArray = np.zeros(venv.num_envs, dtype=np.int64)
        self.returns: npt.NDArray[np.float64] = np.zeros(venv.num_envs)
        self._finished: list[tuple[int, float]] = []
        self._reward = reward
        self._listener = listener
        self._actions: Tree = None

    @override
    def reset(self) -> Tree:
        """Open an episode in every row. `[B, ...]`"""
        self._forget(np.ones(self.num_envs, dtype=np.bool_))
        self.observations = self.venv.reset()
        return self.observations

    @override
    def step_async(self, actions: Any) -> None:
        """Start one step. `[B, ...]`"""
        self._actions = actions
        self.venv.step_async(actions)

    @override
    def step_wait(self) -> Any:
        """Observations, learned rewards, ends of episodes and remarks of the step that was started."""
        observations, rewards, dones, infos = self.venv.step_wait()
        following: Tree = with_last_observations(observations, dones, infos)
        learned = self._reward(self.observations, self._actions, following, dones, self.steps)
        if self._listener is not None:
            own = np.asarray(rewards, dtype=np.float32)
            self._listener.add(self.observations, self._actions, following, own, dones)
        self.steps, self.returns, self.observations = self.steps + 1, self.returns + learned, observations
        if np.any(dones):
            self._finish(dones)
            _as_arrays(infos)
        return observations, learned, dones, infos

    def take_finished(self) -> tuple[list[int], list[float]]:
        """Lengths and learned returns of the episodes that ended since this was asked last."""
        finished, self._finished = self._finished, []
        return [length for length, _ in finished], [total for _, total in finished]

    def continue_from(self, observations: Tree) -> None:
        """Go on from these observations; a row that shows another one than before is in a new episode. `[B, ...]`"""
        if self.observations is not None:
            self._forget(changed_rows(self.observations, observations))
        self.observations = observations

    def state(self) -> dict[str, Any]:
        """Where the episodes are, as a plain tree."""
        return {"observations": self.observations, "steps": self.steps, "returns": self.returns}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave, if the number of rows is the same."""
        if len(state["steps"]) == self.num_envs:
            self.observations = state["observations"]
            self.steps = np.array(state["steps"])
            self.returns = np.array(state["returns"])

    def _finish(self, dones: BoolArray) -> None:
        self._finished += [(int(self.steps[row]), float(self.returns[row])) for row in np.flatnonzero(dones)]
        self._count_afresh(dones)

    def _forget(self, rows: BoolArray) -> None:
        self._count_afresh(rows)
        if self._listener is not None:
            self._listener.drop(rows)

    def _count_afresh(self, rows: BoolArray) -> None:
        self.steps, self.returns = np.where(rows, 0, self.steps), np.where(rows, 0.0, self.returns)


def check_played_lengths(lengths: Sequence[int], horizon: int | None, name: str) -> int | None:
    """Refuse episodes of different lengths.

    Args:
        lengths: Of the episodes that ended since the last check.
        horizon: The length of all before them, None if there were none.
        name: Who asks.

    Returns:
        The length of all of them.

    Raises:
        InvalidInputError: They differ.
    """
    different = sorted({*lengths, *([] if horizon is None else [horizon])})
    if len(different) > 1:
        raise InvalidInputError(
            f"{name} met episodes of different lengths ({', '.join(map(str, different[:5]))} steps): when an episode "
            "ends tells of the true reward. Give environments whose episodes have one length, or "
            "allow_variable_horizon=True to train all the same."
        )
    return different[0] if different else None


def with_last_observations(observations: Tree, dones: BoolArray, infos: Any) -> Tree:
    """Observations in which ended rows show how their episode ended, not how the next one begins. `[B, ...]`"""
    if not np.any(dones):
        return observations
    following = map_tree(np.copy, observations)
    for row in np.flatnonzero(dones):
        map_tree(
            lambda column, last, row=row: _write_row(column, row, last), following, infos[row]["terminal_observation"]
        )
    return following


def changed_rows(before: Tree, now: Tree) -> BoolArray:
    """Rows in which two batches of observations differ. `[B]`"""
    pairs = zip(leaves(before), leaves(now), strict=True)
    differing: BoolArray = np.any([(one != other).reshape(len(one), -1).any(axis=1) for one, other in pairs], axis=0)
    return differing


def _as_arrays(infos: Sequence[dict[str, Any]]) -> None:
    """Of an episode in a Discrete space the last observation is a number, which the library warns of."""
    for info in infos:
        if isinstance(info.get("terminal_observation"), np.generic):
            info["terminal_observation"] = np.asarray(info["terminal_observation"])


def _write_row(column: npt.NDArray[Any], row: int, value: Any) -> None:
    column[row] = value
