"""Where episodes come from: one small interface for memory, files and what is made of other episodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from rl_framework.core.spaces import check_equal
from rl_framework.data.episode import Episode
from rl_framework.data.episode_layout import EpisodeLayout, check_same_layout
from rl_framework.errors import InvalidInputError

IntArray = npt.NDArray[np.int64]
Space = gym.Space[Any]
NOTHING: Mapping[str, Any] = {}


class EpisodeSource(Protocol):
    """Episodes by number, read when they are asked for; everything but `read` is known without reading them."""

    @property
    def lengths(self) -> IntArray:
        """Steps of each episode. `[N]`"""
        ...

    @property
    def observation_space(self) -> Space | None:
        """Space of one observation, None where the data set does not tell."""
        ...

    @property
    def action_space(self) -> Space | None:
        """Space of one action, None where the data set does not tell."""
        ...

    @property
    def has_rewards(self) -> bool:
        """Whether the episodes were recorded with rewards."""
        ...

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What else is known, as JSON values: `environment_id`, `source`, ..."""
        ...

    def read(self, index: int) -> Episode:
        """The episode of a number between 0 and N - 1."""
        ...


class InMemorySource:
    """Episodes that are held in memory.

    Args:
        episodes: The episodes.
        observation_space: Space of one observation, if known.
        action_space: Space of one action, if known.
        metadata: What else is known.
    """

    def __init__(
        self,
        episodes: Sequence[Episode],
        observation_space: Space | None = None,
        action_space: Space | None = None,
        metadata: Mapping[str, Any] = NOTHING,
    ) -> None:
        self._episodes = tuple(episodes)
        self.observation_space = observation_space
        self.action_space = action_space
        self.metadata = metadata
        self.has_rewards = bool(self._episodes) and self._episodes[0].rewards is not None
        self.lengths: IntArray = np.array([len(episode) for episode in self._episodes], dtype=np.int64)

    def read(self, index: int) -> Episode:
        """The episode of a number."""
        return self._episodes[index]


class SelectedSource:
    """Some episodes of another source, in an order of their own.

    Args:
        source: The other source.
        indices: Numbers of the episodes in it. `[N]`
    """

    def __init__(self, source: EpisodeSource, indices: IntArray) -> None:
        self.source = source
        self.indices = indices

    @property
    def lengths(self) -> IntArray:
        """Steps of each episode. `[N]`"""
        return self.source.lengths[self.indices]

    @property
    def observation_space(self) -> Space | None:
        """That of the other source."""
        return self.source.observation_space

    @property
    def action_space(self) -> Space | None:
        """That of the other source."""
        return self.source.action_space

    @property
    def has_rewards(self) -> bool:
        """Whether the other source has them."""
        return self.source.has_rewards

    @property
    def metadata(self) -> Mapping[str, Any]:
        """That of the other source."""
        return self.source.metadata

    def read(self, index: int) -> Episode:
        """The episode of a number."""
        return self.source.read(int(self.indices[index]))


class ConcatenatedSource:
    """Episodes of several sources, one source after the other.

    Args:
        parts: The sources, of which at least one is not empty.

    Raises:
        InvalidInputError: Episodes of two sources differ in an array, which is named.
        SpaceError: Their spaces differ.
    """

    def __init__(self, parts: Sequence[SelectedSource]) -> None:
        self.sources, self._which, self._numbers = _flatten(parts)
        _check_together(parts)
        self.observation_space = _first_known(part.observation_space for part in parts)
        self.action_space = _first_known(part.action_space for part in parts)
        self.has_rewards = any(part.has_rewards for part in parts if len(part.indices))
        self.metadata = _shared(self.sources)

    @cached_property
    def lengths(self) -> IntArray:
        """Steps of each episode. `[N]`"""
        lengths = np.zeros(len(self._which), np.int64)
        for number, source in enumerate(self.sources):
            chosen = self._which == number
            lengths[chosen] = source.lengths[self._numbers[chosen]]
        return lengths

    def parts(self, indices: IntArray) -> tuple[list[EpisodeSource], IntArray, IntArray]:
        """The sources, and of the chosen episodes the source each comes from and its number in there. `[N]`"""
        return self.sources, self._which[indices], self._numbers[indices]

    def read(self, index: int) -> Episode:
        """The episode of a number."""
        source: EpisodeSource = self.sources[self._which[index]]
        return source.read(int(self._numbers[index]))


class MappedSource:
    """Episodes that a function makes of others, each time they are read.

    Spaces are taken over as long as the function leaves the arrays of an observation or action as they were. Lengths
    are found by reading everything once, when they are first asked for.

    Args:
        source: The others.
        function: Makes an episode of an episode.
    """

    def __init__(self, source: SelectedSource, function: Callable[[Episode], Episode]) -> None:
        self._source = source
        self._function = function
        self.metadata = source.metadata

    @cached_property
    def lengths(self) -> IntArray:
        """Steps of each episode. `[N]`"""
        count = len(self._source.indices)
        return np.fromiter((len(self.read(index)) for index in range(count)), np.int64, count)

    @cached_property
    def has_rewards(self) -> bool:
        """Whether the first episode that the function makes has rewards."""
        after = self._layouts[1]
        return after is not None and after.rewards is not None

    @property
    def observation_space(self) -> Space | None:
        """That of the others, if observations still look like theirs."""
        before, after = self._layouts
        same = before is not None and after is not None and before.observations == after.observations
        return self._source.observation_space if same else None

    @property
    def action_space(self) -> Space | None:
        """That of the others, if actions still look like theirs."""
        before, after = self._layouts
        same = before is not None and after is not None and before.actions == after.actions
        return self._source.action_space if same else None

    def read(self, index: int) -> Episode:
        """The episode of a number, made anew.

        Raises:
            InvalidInputError: The function gave something else.
        """
        made = self._function(self._source.read(index))
        if not isinstance(made, Episode):
            raise InvalidInputError(f"map needs a function that returns an Episode; it returned {made!r:.200}.")
        return made

    @cached_property
    def _layouts(self) -> tuple[EpisodeLayout | None, EpisodeLayout | None]:
        """How the first episode looks before and after; None where there is none."""
        if not len(self._source.indices):
            return None, None
        return EpisodeLayout.of(self._source.read(0)), EpisodeLayout.of(self.read(0))


def knows_lengths(source: EpisodeSource) -> bool:
    """Whether asking for the lengths costs no reading of episodes."""
    match source:
        case MappedSource():
            return "lengths" in vars(source)
        case ConcatenatedSource():
            return all(knows_lengths(part) for part in source.sources)
        case _:
            return True


def _flatten(parts: Sequence[SelectedSource]) -> tuple[list[EpisodeSource], IntArray, IntArray]:
    """Sources without concatenations among them, so that sums in a loop do not get slower with each term."""
    sources: list[EpisodeSource] = []
    which, numbers = [], []
    for part in parts:
        inner, of_source, in_source = _parts_of(part)
        which.append(of_source + len(sources))
        numbers.append(in_source)
        sources.extend(inner)
    return sources, np.concatenate(which), np.concatenate(numbers)


def _parts_of(part: SelectedSource) -> tuple[list[EpisodeSource], IntArray, IntArray]:
    if isinstance(part.source, ConcatenatedSource):
        return part.source.parts(part.indices)
    return [part.source], np.zeros(len(part.indices), np.int64), part.indices


def _check_together(parts: Sequence[SelectedSource]) -> None:
    first: EpisodeLayout | None = None
    for number, part in enumerate(parts):
        for role in ("observation", "action"):
            _check_space(parts, role, number)
        if len(part.indices):
            layout = EpisodeLayout.of(part.read(0))
            first = first or layout
            check_same_layout(first, layout, who=f"Part {number} of the concatenation")


def _check_space(parts: Sequence[SelectedSource], role: str, number: int) -> None:
    expected = _first_known(getattr(part, f"{role}_space") for part in parts)
    given: Space | None = getattr(parts[number], f"{role}_space")
    if expected is not None and given is not None:
        check_equal(expected, given, role=role, who=f"part {number} of the concatenation")


def _first_known(spaces: Iterable[Space | None]) -> Space | None:
    return next((space for space in spaces if space is not None), None)


def _shared(sources: Sequence[EpisodeSource]) -> Mapping[str, Any]:
    """What all sources say alike."""
    first, *others = (source.metadata for source in sources)
    return {key: value for key, value in first.items() if all(key in other and other[key] == value for other in others)}
