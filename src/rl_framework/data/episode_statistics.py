"""What a set of episodes is like in numbers, found by reading each of them once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_framework.core.trees import Tree, map_tree
from rl_framework.data.episode import Episode
from rl_framework.errors import InvalidInputError

Float64Array = npt.NDArray[np.float64]
CHUNK_BYTES = 2**23


@dataclass(frozen=True, slots=True)
class Spread:
    """How one number varies over the episodes.

    Attributes:
        mean: Mean.
        std: Population standard deviation (divided by N).
        min: Smallest.
        max: Largest.
    """

    mean: float
    std: float
    min: float
    max: float

    @classmethod
    def of(cls, values: npt.NDArray[Any]) -> Spread:
        """The spread of some numbers. `[N]`"""
        numbers = values.astype(np.float64)
        return cls(float(numbers.mean()), float(numbers.std()), float(numbers.min()), float(numbers.max()))


@dataclass(frozen=True, slots=True, eq=False)
class ArraySpread:
    """How each element of an observation or action varies over all steps, in double precision.

    Attributes:
        mean: Mean. `[...]`
        std: Population standard deviation (divided by the number of entries). `[...]`
        min: Smallest. `[...]`
        max: Largest. `[...]`
        count: Number of entries: all steps, for observations also the last ones of the episodes.
    """

    mean: Float64Array
    std: Float64Array
    min: Float64Array
    max: Float64Array
    count: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class EpisodeStatistics:
    """What a set of episodes is like.

    Attributes:
        n_episodes: Number of episodes.
        n_transitions: Number of steps of all of them.
        n_terminated: Number of episodes in which the task ended; the others were cut.
        lengths: Steps per episode.
        returns: Sum of rewards per episode, undiscounted; None without rewards.
        observations: A tree of `ArraySpread`.
        actions: A tree of `ArraySpread`.
    """

    n_episodes: int
    n_transitions: int
    n_terminated: int
    lengths: Spread
    returns: Spread | None
    observations: Tree
    actions: Tree


def summarise(episodes: Iterable[Episode]) -> EpisodeStatistics:
    """Read each episode once, in constant memory.

    Raises:
        InvalidInputError: There are none, or an array holds no real numbers.
    """
    lengths, returns, terminated = [], [], 0
    observations: Tree = None
    actions: Tree = None
    for episode in episodes:
        lengths.append(len(episode))
        terminated += episode.terminated
        if episode.rewards is not None:
            returns.append(episode.total_reward)
        if not actions:
            observations = map_tree(_Moments, episode.observations)
            actions = map_tree(_Moments, episode.actions)
        map_tree(_Moments.add, observations, episode.observations)
        map_tree(_Moments.add, actions, episode.actions)
    if not lengths:
        raise InvalidInputError("There are no episodes of which statistics could be taken.")
    return EpisodeStatistics(
        n_episodes=len(lengths),
        n_transitions=sum(lengths),
        n_terminated=terminated,
        lengths=Spread.of(np.array(lengths)),
        returns=Spread.of(np.array(returns)) if returns else None,
        observations=map_tree(_Moments.spread, observations),
        actions=map_tree(_Moments.spread, actions),
    )


class _Moments:
    """Running count, mean, sum of squared distances from it, smallest and largest, element by element.

    Source: Chan, Golub and LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample Variances, 1979.
    """

    def __init__(self, array: np.ndarray) -> None:
        if array.dtype.kind not in "biuf":
            raise InvalidInputError(f"Statistics are taken of real numbers, not of arrays of {array.dtype}.")
        self.count = 0
        self.mean = np.zeros(array.shape[1:])
        self.squares = np.zeros(array.shape[1:])
        self.min = np.full(array.shape[1:], np.inf)
        self.max = np.full(array.shape[1:], -np.inf)

    def add(self, array: np.ndarray) -> None:
        """Take in the entries of an array. `[n, ...]`"""
        for part in _chunks(array):
            self._add(part.astype(np.float64))

    def spread(self) -> ArraySpread:
        """What was found."""
        found = (self.mean, np.sqrt(self.squares / self.count), self.min, self.max)
        for array in found:
            array.setflags(write=False)
        return ArraySpread(*found, self.count)

    def _add(self, part: Float64Array) -> None:
        count = len(part)
        mean = part.mean(axis=0)
        difference = mean - self.mean
        total = self.count + count
        self.squares = self.squares + ((part - mean) ** 2).sum(axis=0) + difference**2 * (self.count * count / total)
        self.mean = self.mean + difference * (count / total)
        self.min, self.max = np.minimum(self.min, part.min(axis=0)), np.maximum(self.max, part.max(axis=0))
        self.count = total


def _chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Parts that stay small in double precision: an episode of images may be large."""
    entry = max(1, int(np.prod(array.shape[1:], dtype=np.int64))) * 8
    size = max(1, CHUNK_BYTES // entry)
    return (array[start : start + size] for start in range(0, len(array), size))
