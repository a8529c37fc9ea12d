"""What Minari's two forms have in common: how the parts of an episode become an `Episode`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from rl_framework.core.spaces import leaf_shape, map_space
from rl_framework.core.trees import Tree
from rl_framework.data.episode import Episode
from rl_framework.data.episode_layout import EpisodeLayout
from rl_framework.data.episode_source import IntArray
from rl_framework.data.formats.damage import check_length, episode_of
from rl_framework.data.formats.minari_metadata import MinariDescription
from rl_framework.errors import InvalidInputError


class MinariSource(ABC):
    """What is known of a Minari data set without its episodes.

    Args:
        folder: The folder with the data and the metadata.
    """

    has_rewards = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._described = MinariDescription.read(folder)
        self.observation_space = self._described.observation_space
        self.action_space = self._described.action_space
        self.metadata: Mapping[str, Any] = self._described.metadata

    @cached_property
    def lengths(self) -> IntArray:
        """Steps of each episode. `[N]`"""
        noted = self._described.lengths
        return self._find_lengths() if noted is None else noted

    def read(self, index: int) -> Episode:
        """The episode of a number.

        Raises:
            CorruptArchiveError: It is damaged, or not as long as the data set says.
            InvalidInputError: Its arrays make no episode.
            UnsafeArchiveError: It lies in another file, or holds objects.
        """
        with episode_of(self._folder, index):
            episode = self._read(index)
        check_length(self._folder, index, len(episode), int(self.lengths[index]))
        return episode

    @abstractmethod
    def _read(self, index: int) -> Episode:
        """The episode of a number, as the files have it."""

    @abstractmethod
    def _find_lengths(self) -> IntArray:
        """The lengths as the files have them."""

    @property
    def _types(self) -> EpisodeLayout:
        return self._described.stored_as or EpisodeLayout(None, None, None)

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return type(self), (self._folder.absolute(),)


def make_episode(parts: Mapping[str, Any]) -> Episode:
    """An episode of Minari's arrays.

    Raises:
        InvalidInputError: Lengths disagree, or the task ends before the last step.
    """
    terminations, rewards = parts["terminations"].astype(bool), parts["rewards"]
    if np.any(terminations[:-1]):
        raise InvalidInputError(f"The task ends at step {int(np.argmax(terminations))} of {len(terminations)}.")
    return Episode(
        observations=parts["observations"],
        actions=parts["actions"],
        rewards=rewards if rewards.dtype.kind == "f" else rewards.astype(np.float64),
        terminated=bool(terminations[-1:].any()),
    )


def structure_of(space: gym.Space[Any] | None) -> Tree | None:
    """The leaf spaces of a space as a tree, None where there is no space."""
    return None if space is None else map_space(lambda leaf: leaf, space)


def as_in_space(space: gym.Space[Any] | None, entries: np.ndarray) -> np.ndarray:
    """Entries in the shape that their space says, where they have as many numbers. `[n, ...]`"""
    if space is None or entries.shape[1:] == leaf_shape(space):
        return entries
    if int(np.prod(entries.shape[1:])) != int(np.prod(leaf_shape(space))):
        raise InvalidInputError(f"Entries have shape {entries.shape[1:]}, their space is {space}.")
    return entries.reshape(len(entries), *leaf_shape(space))
