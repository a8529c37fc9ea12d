"""Which arrays an episode has, and of which types: what all episodes of a sequence have in common."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from rl_framework.core.trees import Tree, leaves_with_paths, map_tree, path_name
from rl_framework.data.episode import Episode
from rl_framework.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class ArrayType:
    """What the entries of an array are.

    Attributes:
        dtype: Type of number, byte order included.
        shape: Shape of one entry: that of the array without its first axis.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, array: np.ndarray) -> ArrayType:
        """The type of an array's entries."""
        return cls(array.dtype, array.shape[1:])

    def __str__(self) -> str:
        return f"{self.dtype} of shape {self.shape}"


@dataclass(frozen=True, slots=True)
class EpisodeLayout:
    """The arrays of an episode without their numbers.

    Attributes:
        observations: A tree of `ArrayType`.
        actions: A tree of `ArrayType`.
        rewards: None where there are no rewards.
    """

    observations: Tree
    actions: Tree
    rewards: ArrayType | None

    @classmethod
    def of(cls, episode: Episode) -> EpisodeLayout:
        """The layout of one episode."""
        return cls(
            map_tree(ArrayType.of, episode.observations),
            map_tree(ArrayType.of, episode.actions),
            None if episode.rewards is None else ArrayType.of(episode.rewards),
        )

    def named_arrays(self) -> Iterator[tuple[str, ArrayType]]:
        """Each array's name, e.g. `observations.camera`, with its type."""
        for field, tree in (("observations", self.observations), ("actions", self.actions)):
            for path, found in leaves_with_paths(tree):
                yield f"{field}.{path_name(path)}" if path else field, found
        if self.rewards is not None:
            yield "rewards", self.rewards

    def difference(self, other: EpisodeLayout) -> str | None:
        """How another layout first differs from this one, in words; None if they are equal."""
        if self == other:
            return None
        ours, theirs = dict(self.named_arrays()), dict(other.named_arrays())
        for name, expected in ours.items():
            if name not in theirs:
                return f"{name} is missing"
            if theirs[name] != expected:
                return f"{name} is {theirs[name]}, expected {expected}"
        extra = [name for name in theirs if name not in ours]
        return f"{extra[0]} is not expected" if extra else "tuples and dicts are nested in another way"


def check_same_layout(expected: EpisodeLayout, given: EpisodeLayout, *, who: str) -> None:
    """Refuse a layout that is not the expected one.

    Args:
        expected: The layout that the others have.
        given: The layout to check.
        who: Whose it is, for the message, e.g. `"Episode 3"`.

    Raises:
        InvalidInputError: They differ; the message names the field.
    """
    found = expected.difference(given)
    if found is not None:
        raise InvalidInputError(f"{who} does not have the arrays of the episodes before it: {found}.")
