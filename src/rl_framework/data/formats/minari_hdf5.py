"""Reads and writes Minari's HDF5 file, in which each episode is a group `episode_<number>`; see `minari_format`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np

from rl_framework.core.trees import Tree, map_tree
from rl_framework.data.episode import Episode
from rl_framework.data.episode_source import IntArray
from rl_framework.data.formats.foreign_notes import EpisodeStream, as_noted
from rl_framework.data.formats.hdf5_trees import Hdf5File, array, datasets, member, tree, write_tree
from rl_framework.data.formats.minari_episodes import (
    MinariSource,
    as_in_space,
    make_episode,
    structure_of,
)
from rl_framework.data.formats.minari_spaces import is_picture
from rl_framework.data.formats.picture_files import decode_pictures
from rl_framework.errors import CorruptArchiveError, UnsafeArchiveError

DATA_FILE = "main_data.hdf5"
GROUP = "episode_{}"
FLAGS = ("rewards", "terminations", "truncations")


class MinariHdf5Source(MinariSource):
    """The episodes of a Minari data set in one HDF5 file.

    Args:
        folder: The folder with the file and the metadata.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._file = Hdf5File(folder / DATA_FILE)
        with self._file.reading() as file:
            if GROUP.format(self._described.n_episodes - 1) not in file:
                raise CorruptArchiveError(
                    f"{self._file.path} has {len(file)} episodes, its metadata list {self._described.n_episodes}."
                )

    def _read(self, index: int) -> Episode:
        types = self._types
        with self._file.reading() as file:
            group = member(file, GROUP.format(index))
            parts: dict[str, Any] = {name: array(group, name)[()] for name in FLAGS}
            parts["observations"] = _arrays(group, "observations", types.observations, self.observation_space)
            parts["actions"] = _arrays(group, "actions", types.actions, self.action_space)
            return make_episode(parts)

    def _find_lengths(self) -> IntArray:
        with self._file.reading() as file:
            return np.array([_length(file[GROUP.format(i)]) for i in range(self._described.n_episodes)], np.int64)


def write_minari_hdf5(stream: EpisodeStream, folder: Path) -> None:
    """Write Minari's file into a folder."""
    with h5py.File(folder / DATA_FILE, "w", track_order=True) as file:
        for number, episode in enumerate(stream):
            group = file.create_group(GROUP.format(number))
            group.attrs["id"] = number
            group.attrs["total_steps"] = len(episode)
            write_tree(group, "observations", episode.observations)
            write_tree(group, "actions", episode.actions)
            write_tree(group, "rewards", episode.rewards)
            last = np.arange(len(episode)) == len(episode) - 1
            write_tree(group, "terminations", last & episode.terminated)
            write_tree(group, "truncations", last & episode.truncated)


def _length(group: h5py.Group) -> int:
    steps = group.attrs.get("total_steps")
    return len(array(group, "rewards")) if steps is None else int(steps)


def _arrays(group: h5py.Group, name: str, types: Tree | None, space: gym.Space[Any] | None) -> Tree:
    if types is not None:
        return map_tree(lambda found, data: as_noted(found, data[()], len(data)), types, tree(group, name, types))
    structure = structure_of(space)
    if structure is None:
        return map_tree(lambda data: data[()], tree(group, name))
    return map_tree(_leaf, structure, datasets(group, name, structure))


def _leaf(space: gym.Space[Any], data: h5py.Dataset) -> np.ndarray:
    if is_picture(space) and data.shape[1:] != space.shape:
        return decode_pictures([_bytes(row) for row in data[()]], space.shape or ())
    if data.dtype.hasobject:
        raise UnsafeArchiveError(f"{data.file.filename}: {data.name} holds objects, expected numbers.")
    return as_in_space(space, data[()])


def _bytes(row: Any) -> bytes:
    return np.asarray(row, np.uint8).tobytes()
