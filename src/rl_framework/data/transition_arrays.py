"""Episodes as single transitions: pairs of an observation and the action taken there, by number.

Data that fit are copied into memory once. Larger ones in this library's own layout are read where they lie, by
arithmetic on flat arrays over the files' pages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from rl_framework.core.trees import Tree, batch_size, leaves, leaves_with_paths, map_tree, path_name, select
from rl_framework.data.episode import Episode
from rl_framework.data.episode_layout import ArrayType, EpisodeLayout, check_same_layout
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.data.episode_source import IntArray
from rl_framework.errors import InvalidInputError

Numbers: TypeAlias = npt.NDArray[np.integer[Any]]
Pairs: TypeAlias = tuple[Tree, Tree]
"""Observations and the actions taken there. `[n, ...]` per leaf"""


@runtime_checkable
class FlatSource(Protocol):
    """A source whose arrays hold all episodes, one after the other."""

    @property
    def starts(self) -> IntArray:
        """The first step of each episode, and behind them the number of all steps. `[N + 1]`"""
        ...

    @property
    def flat_observations(self) -> Tree:
        """The observations of all episodes, the last ones included. `[starts[N] + N, ...]` per leaf"""
        ...

    @property
    def flat_actions(self) -> Tree:
        """The actions of all episodes. `[starts[N], ...]` per leaf"""
        ...


class InMemoryTransitions:
    """Transitions in arrays of their own.

    Args:
        observations: What was seen. `[n, ...]` per leaf
        actions: What was done there. `[n, ...]` per leaf
    """

    def __init__(self, observations: Tree, actions: Tree) -> None:
        self.observations = observations
        self.actions = actions
        self.n_transitions = batch_size(actions)
        self.bytes_per_transition = sum(leaf[:1].nbytes for leaf in (*leaves(observations), *leaves(actions)))

    @classmethod
    def of(
        cls, episodes: EpisodeSequence, layout: EpisodeLayout, numbers: Sequence[int] | None = None
    ) -> InMemoryTransitions:
        """Copies of all transitions of a sequence.

        Args:
            episodes: The episodes.
            layout: Their arrays.
            numbers: How errors call them, counted from 0 if None. `[N]`

        Raises:
            InvalidInputError: An episode has other arrays, or a number that is NaN or infinite.
        """
        count = episodes.n_transitions
        observations, actions = (_allocate(tree, count) for tree in (layout.observations, layout.actions))
        start = 0
        for number, episode in zip(range(len(episodes)) if numbers is None else numbers, episodes, strict=True):
            check_same_layout(layout, EpisodeLayout.of(episode), who=f"Episode {number}")
            check_finite(episode, number)
            steps = slice(start, start + len(episode))
            map_tree(lambda to, leaf, at=steps: _copy(leaf[:-1], to[at]), observations, episode.observations)
            map_tree(lambda to, leaf, at=steps: _copy(leaf, to[at]), actions, episode.actions)
            start = steps.stop
        return cls(observations, actions)

    def gather(self, numbers: Numbers) -> Pairs:
        """Transitions by number. `[n]`"""
        taken: Pairs = map_tree(lambda leaf: leaf.take(numbers, axis=0), (self.observations, self.actions))
        return taken

    def order(self, rng: np.random.Generator) -> ShuffledNumbers:
        """All of them in random order."""
        return ShuffledNumbers(self, rng)

    def blocks(self, size: int) -> Iterator[Pairs]:
        """Views of the arrays."""
        for start in range(0, self.n_transitions, size):
            yield select((self.observations, self.actions), slice(start, start + size))

    def action_blocks(self, size: int) -> Iterator[Tree]:
        """Views of the arrays."""
        for start in range(0, self.n_transitions, size):
            yield select(self.actions, slice(start, start + size))


class FlatTransitions:
    """Transitions in flat arrays over the pages of files.

    Args:
        source: The arrays.
        indices: Numbers of the chosen episodes in it. `[N]`
    """

    def __init__(self, source: FlatSource, indices: IntArray) -> None:
        self._observations, self._actions = source.flat_observations, source.flat_actions
        self._indices = np.asarray(indices, np.int64)
        self._starts = np.asarray(source.starts, np.int64)[self._indices]
        lengths = np.diff(source.starts)[self._indices]
        self._ends: IntArray = np.cumsum(lengths, dtype=np.int64)
        self._firsts = self._ends - lengths
        self.n_transitions = int(self._ends[-1])
        self.bytes_per_transition = sum(
            leaf[:1].nbytes for leaf in (*leaves(self._observations), *leaves(self._actions))
        )

    def gather(self, numbers: Numbers) -> Pairs:
        """Transitions by number, read in the order in which they lie in the files. `[n]`

        Raises:
            InvalidInputError: A number in them is NaN or infinite.
        """
        numbers = np.asarray(numbers, np.int64)
        sorting = np.argsort(numbers)
        back = np.empty_like(sorting)
        back[sorting] = np.arange(len(sorting))
        episodes, steps = self._locate(numbers[sorting])
        rows = self._starts[episodes] + steps
        rows_seen = rows + self._indices[episodes]
        observations = map_tree(lambda leaf: leaf[rows_seen][back], self._observations)
        actions = map_tree(lambda leaf: leaf[rows][back], self._actions)
        self._check_finite(numbers, observations, actions)
        return observations, actions

    def order(self, rng: np.random.Generator) -> ShuffledNumbers:
        """All of them in random order."""
        return ShuffledNumbers(self, rng)

    def blocks(self, size: int) -> Iterator[Pairs]:
        """Copies of the arrays' parts."""
        for start in range(0, self.n_transitions, size):
            yield self.gather(np.arange(start, min(start + size, self.n_transitions)))

    def action_blocks(self, size: int) -> Iterator[Tree]:
        """Copies of the arrays' parts."""
        for start in range(0, self.n_transitions, size):
            episodes, steps = self._locate(np.arange(start, min(start + size, self.n_transitions)))
            yield select(self._actions, self._starts[episodes] + steps)

    def _locate(self, numbers: Numbers) -> tuple[IntArray, IntArray]:
        """Position of each transition's episode among the chosen ones, and its step there. `[n]`, `[n]`"""
        episodes = np.searchsorted(self._ends, numbers, side="right")
        return episodes, numbers - self._firsts[episodes]

    def _check_finite(self, numbers: Numbers, observations: Tree, actions: Tree) -> None:
        for field, tree in (("observations", observations), ("actions", actions)):
            found = _first_bad_row(field, tree)
            if found is not None:
                name, row = found
                episodes, steps = self._locate(numbers[row : row + 1])
                raise _not_finite(name, int(episodes[0]), int(steps[0]))


class ShuffledNumbers:
    """The numbers of all transitions in random order; four bytes each, eight from 2^31 on.

    Args:
        transitions: The transitions.
        rng: Draws the order.
    """

    def __init__(self, transitions: InMemoryTransitions | FlatTransitions, rng: np.random.Generator) -> None:
        self._transitions = transitions
        count = transitions.n_transitions
        self._numbers = np.arange(count, dtype=np.int32 if count < 2**31 else np.int64)
        rng.shuffle(self._numbers)

    def read(self, start: int, stop: int) -> Pairs:
        """Those at some positions of the order."""
        return self._transitions.gather(self._numbers[start:stop])


def check_finite(episode: Episode, number: int) -> None:
    """Refuse NaN and infinite numbers in actions and in the observations they were taken at.

    Args:
        episode: The episode.
        number: What the message calls it.

    Raises:
        InvalidInputError: There is one; the message names the array and the step.
    """
    acted_on = select(episode.observations, slice(0, -1))
    for field, tree in (("observations", acted_on), ("actions", episode.actions)):
        found = _first_bad_row(field, tree)
        if found is not None:
            raise _not_finite(found[0], number, found[1])


def _first_bad_row(field: str, tree: Tree) -> tuple[str, int] | None:
    for path, leaf in leaves_with_paths(tree):
        if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
            bad = ~np.isfinite(leaf).reshape(len(leaf), -1).all(1)
            return f"{field}.{path_name(path)}" if path else field, int(bad.argmax())
    return None


def _not_finite(name: str, episode: int, step: int) -> InvalidInputError:
    return InvalidInputError(
        f"{name} of episode {episode} holds NaN or an infinite number at step {step}; a network cannot learn from it. "
        "Leave such episodes out with sequence.filter(...), or mend them with sequence.map(...)."
    )


def pair_bytes(layout: EpisodeLayout) -> int:
    """Memory that one observation and one action take."""
    types: list[ArrayType] = [*leaves(layout.observations), *leaves(layout.actions)]
    return sum(one.dtype.itemsize * int(np.prod(one.shape, dtype=np.int64)) for one in types)


def _allocate(types: Tree, count: int) -> Tree:
    return map_tree(lambda one: np.empty((count, *one.shape), one.dtype), types)


def _copy(source: Any, target: np.ndarray) -> None:
    target[...] = source


def join_pairs(parts: list[Pairs]) -> Pairs:
    """Pairs of several arrays in one, row after row."""
    joined: Pairs = map_tree(lambda *found: np.concatenate(found), *parts)
    return joined
