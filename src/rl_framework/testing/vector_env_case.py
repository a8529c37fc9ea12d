"""What the contract of vector environments is run over: a back-end, play in it, and books kept beside its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rl_framework.core.policy import BoolArray
from rl_framework.core.spaces import leaf_spaces
from rl_framework.core.trees import Tree, copy_tree, leaves_with_paths, path_name, stack
from rl_framework.envs.vector_env import EnvironmentState, StateLevel, VectorEnv, VectorStep


@dataclass(frozen=True, kw_only=True)
class VectorEnvCase:
    """One back-end with environments in it, to hold to the contract.

    Attributes:
        name: How the case is called in test reports.
        open: Fresh environments that were not reset yet; the same at every call.
        n_envs: Number of rows.
        n_steps: Steps of random play within which an episode ends, and an episode of a schedule in any case.
        is_first: Whether an observation is one that an episode begins with and never ends with; None if that cannot
            be told.
        seeds_episodes: Whether `reset_to_schedule` is possible.
        seeds_reproduce: Whether `reset(seed)` determines all that follows.
        starts_differ: Whether another seed opens other episodes.
        steps_are_equal: Whether each step of ours is one step of every row; where it is not, episodes may be longer.
        resume_level: How exactly a state that is taken right after a reset brings the environments back.
        has_masks: Whether there are action masks.
        has_pictures: Whether `render` gives pictures.
    """

    name: str
    open: Callable[[], VectorEnv]
    n_envs: int
    n_steps: int = 60
    is_first: Callable[[Tree], bool] | None = None
    seeds_episodes: bool = True
    seeds_reproduce: bool = True
    starts_differ: bool = True
    steps_are_equal: bool = True
    resume_level: StateLevel = StateLevel.EXACT
    has_masks: bool = False
    has_pictures: bool = False

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Moment:
    """One step of play.

    Attributes:
        masks: Choices that were allowed before it. `[B, n]`
        actions: What was sent. `[B, ...]`
        step: What came back.
        kept: Copies of the arrays that came back, made at once: observations, rewards and both flags.
    """

    masks: BoolArray | None
    actions: Tree
    step: VectorStep
    kept: tuple[Tree, ...]


class RandomPlayer:
    """Draws allowed actions; the same seed gives the same actions for the same masks.

    Args:
        space: Space of one action; it is not drawn from itself, because environments may do that.
        seed: Where to begin.
    """

    def __init__(self, space: gym.Space[Any], seed: int) -> None:
        self._space = deepcopy(space)
        self._space.seed(seed)
        self._rng = np.random.default_rng(seed)

    def draw(self, environments: VectorEnv) -> Tree:
        """An action for each row. `[B, ...]`"""
        masks = environments.action_masks
        rows = range(environments.spec.n_envs)
        return stack([self._space.sample() if masks is None else self._allowed(masks[row]) for row in rows])

    def _allowed(self, mask: BoolArray) -> Tree:
        """An action that the mask allows: it is drawn among the allowed choices of each part."""
        sizes = _choices(self._space)
        parts = np.split(mask, np.cumsum(sizes)[:-1])
        drawn = np.array([self._rng.choice(np.flatnonzero(part)) for part in parts])
        if isinstance(self._space, spaces.Discrete):
            return self._space.start + self._space.dtype.type(drawn[0])
        return (drawn.reshape(self._space.shape or ()) + _starts(self._space)).astype(self._space.dtype)


class Books:
    """Rewards and steps of each row, counted beside the environments.

    Args:
        n_envs: Number of rows.
    """

    def __init__(self, n_envs: int) -> None:
        self.totals = np.zeros(n_envs)
        self.lengths = np.zeros(n_envs, np.int64)

    def enter(self, step: VectorStep) -> dict[int, tuple[float, int]]:
        """Count one step; return and length of each episode that it ended, by row, whose count begins anew."""
        self.totals += step.rewards
        self.lengths += 1
        ended = np.flatnonzero(step.terminated | step.truncated)
        closed = {int(row): (float(self.totals[row]), int(self.lengths[row])) for row in ended}
        self.totals[ended], self.lengths[ended] = 0.0, 0
        return closed


def play(environments: VectorEnv, n_steps: int, player: RandomPlayer) -> list[Moment]:
    """Take a number of steps from where the environments are."""
    moments = []
    for _ in range(n_steps):
        masks, actions = environments.action_masks, player.draw(environments)
        step = take(environments, actions)
        moments.append(Moment(masks, actions, step, kept=copy_tree(arrays_of(step))))
    return moments


def take(environments: VectorEnv, actions: Tree) -> VectorStep:
    """Send and receive."""
    environments.send(actions)
    return environments.recv()


def arrays_of(step: VectorStep) -> tuple[Tree, ...]:
    """The arrays of a step that have a value per row: observations, rewards and both flags."""
    return step.observations, step.rewards, step.terminated, step.truncated


def state_with_rows(state: EnvironmentState, rows: Sequence[Any]) -> EnvironmentState:
    """The same state with other rows."""
    return EnvironmentState(level=state.level, rows=tuple(rows))


def assert_batch(space: gym.Space[Any], batch: Tree, n_envs: int) -> None:
    """Arrays of the space's types, a value per row, each of them in the space."""
    arrays = dict(leaves_with_paths(batch))
    expected = dict(leaf_spaces(space))
    assert arrays.keys() == expected.keys(), f"expected the parts {list(expected)}, got {list(arrays)}"
    for path, leaf in expected.items():
        array, name = arrays[path], path_name(path)
        assert isinstance(array, np.ndarray), f"{name} is a {type(array).__name__}, not an array"
        assert (len(array), array.dtype) == (n_envs, leaf.dtype), f"{name} has {array.shape} of {array.dtype}"
        outside = [row for row in range(n_envs) if not leaf.contains(np.asarray(array[row]))]
        assert not outside, f"{name} of row {outside[0]} is {array[outside[0]]}, which is not in {leaf}"


def assert_same(one: Tree, other: Tree, what: str) -> None:
    """Two trees of equal arrays."""
    first, second = dict(leaves_with_paths(one)), dict(leaves_with_paths(other))
    assert first.keys() == second.keys(), f"{what}: the parts {list(first)} and {list(second)}"
    for path, values in first.items():
        assert np.array_equal(values, second[path]), f"{what}: {path_name(path)} differs"


def assert_same_play(one: Sequence[Moment], other: Sequence[Moment]) -> None:
    """Step by step the same numbers, ends and summaries."""
    assert len(one) == len(other)
    for index, (first, second) in enumerate(zip(one, other, strict=True)):
        names = ("observations", "rewards", "terminated", "truncated")
        for name, mine, yours in zip(names, first.kept, second.kept, strict=True):
            assert_same(mine, yours, f"{name} of step {index}")
        assert first.step.episodes == second.step.episodes, f"summaries of step {index}"
        assert_same(dict(first.step.final), dict(second.step.final), f"last observations of step {index}")


def _choices(space: gym.Space[Any]) -> list[int]:
    """Number of choices of each part of a maskable action, in the order of a mask."""
    if isinstance(space, spaces.Discrete):
        return [int(space.n)]
    if isinstance(space, spaces.MultiDiscrete):
        return [int(size) for size in space.nvec.reshape(-1)]
    assert isinstance(space, spaces.MultiBinary), f"{space} cannot be masked"
    return [2] * int(np.prod(space.shape))


def _starts(space: gym.Space[Any]) -> Any:
    return space.start if isinstance(space, spaces.MultiDiscrete) else 0
