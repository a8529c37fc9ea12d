"""This library's own layout: a folder of flat NumPy files, read as slices of their pages without copying.

`dataset.json` says which file holds which array. In each file lie the entries of all episodes, one after the other;
an episode of T steps has T + 1 observations and T of everything else, T standing in `lengths.npy`. The files are
ordinary NumPy files: any of them opens with `np.load(file, mmap_mode="r")`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from rl_framework.core.spaces import space_from_json
from rl_framework.core.trees import Tree, map_tree, select
from rl_framework.data.episode import Episode
from rl_framework.data.episode_source import IntArray
from rl_framework.data.formats.memory_mapped_table import (
    FORMAT_NAME,
    INFO_ENDS_FILE,
    INFOS_FILE,
    LENGTHS_FILE,
    TABLE_FILE,
    TERMINATED_FILE,
    DatasetTable,
    StoredArray,
)
from rl_framework.data.formats.memory_mapped_writer import BOOL, INT64, write_episodes
from rl_framework.data.npy_files import map_bytes, map_npy, whole_entries
from rl_framework.data.stored_infos import StoredInfos
from rl_framework.errors import CorruptArchiveError, InvalidInputError

if TYPE_CHECKING:
    from rl_framework.data.episode_sequence import EpisodeSequence

TAG_BYTES = 200


class MemoryMappedSource:
    """The episodes of a data set in this library's own layout.

    Args:
        folder: The data set.

    Attributes:
        starts: The first step of each episode, and behind them the number of all steps. `[N + 1]`
        flat_observations: The observations of all episodes, one after the other. `[starts[N] + N, ...]` per leaf
        flat_actions: The actions of all episodes. `[starts[N], ...]` per leaf

    Raises:
        CorruptArchiveError: A file is missing, truncated, or contradicts the table.
        NewerFormatError: Only a newer version of this library reads it.
        UnsafeArchiveError: It names files outside its folder.
        InvalidInputError: It was never finished and holds no whole episode.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        table = DatasetTable.read(folder)
        count = table.n_episodes if table.complete else whole_entries(folder / LENGTHS_FILE, INT64, ())
        if count < 1:
            raise InvalidInputError(f"The data set {folder} was never finished and holds no whole episode.")
        is_complete = table.complete
        self.lengths: IntArray = map_npy(folder / LENGTHS_FILE, INT64, (), count, complete=is_complete)
        self.starts: IntArray = _starts(self.lengths, table, folder)
        self._terminated = map_npy(folder / TERMINATED_FILE, BOOL, (), count, complete=is_complete)
        steps = int(self.starts[-1])
        of_step = partial(_map_array, folder, count=steps, complete=is_complete)
        of_observation = partial(_map_array, folder, count=steps + count, complete=is_complete)
        self.flat_observations: Tree = map_tree(of_observation, table.observations)
        self.flat_actions: Tree = map_tree(of_step, table.actions)
        self._rewards = None if table.rewards is None else of_step(table.rewards)
        self._info_lines, self._info_ends = _map_infos(folder, table, count)
        self.has_rewards = table.rewards is not None
        self.metadata: Mapping[str, Any] = table.metadata
        self.observation_space = _space(table.observation_space)
        self.action_space = _space(table.action_space)

    def read(self, index: int) -> Episode:
        """The episode of a number, as slices of the files."""
        start, stop = int(self.starts[index]), int(self.starts[index + 1])
        steps = slice(start, stop)
        return Episode.from_checked(
            _select(self.flat_observations, slice(start + index, stop + index + 1)),
            _select(self.flat_actions, steps),
            None if self._rewards is None else self._rewards[steps],
            bool(self._terminated[index]),
            None if self._info_ends is None else self._infos(self._info_ends, index, stop - start),
        )

    def __reduce__(self) -> tuple[type[MemoryMappedSource], tuple[Path]]:
        return type(self), (self._folder.absolute(),)

    def _infos(self, ends: IntArray, index: int, count: int) -> StoredInfos:
        start = int(ends[index - 1]) if index else 0
        return StoredInfos(self._info_lines, start, int(ends[index]), count)


class MemoryMappedFormat:
    """This library's own layout."""

    name = "rl_framework"

    def recognises(self, path: Path) -> bool:
        """Whether there is a folder with a table of ours."""
        try:
            with (path / TABLE_FILE).open("rb") as file:
                return f'"{FORMAT_NAME}"'.encode() in file.read(TAG_BYTES)
        except OSError:
            return False

    def locate(self, rest: str) -> Path:
        """The path itself."""
        return Path(rest).expanduser()

    def open(self, path: Path) -> MemoryMappedSource:
        """Map the files of a data set; see `MemoryMappedSource`."""
        return MemoryMappedSource(path)

    def write(self, episodes: EpisodeSequence, path: Path) -> Sequence[str]:
        """Write a new folder, one episode at a time."""
        return write_episodes(
            path,
            episodes,
            observation_space=episodes.observation_space,
            action_space=episodes.action_space,
            metadata=episodes.metadata,
        )


FORMAT = MemoryMappedFormat()


def _starts(lengths: IntArray, table: DatasetTable, folder: Path) -> IntArray:
    """The first step of each episode, and behind them the number of all steps. `[N + 1]`"""
    starts = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    wrong = table.complete and starts[-1] != table.n_transitions
    if lengths.min() < 1 or starts.min() < 0 or wrong:
        raise CorruptArchiveError(
            f"The data set's {folder / LENGTHS_FILE} is damaged: its lengths add up to {starts[-1]} steps, the table "
            f"lists {table.n_transitions}, and each must be at least 1."
        )
    return starts


def _map_array(folder: Path, array: StoredArray, *, count: int, complete: bool) -> np.ndarray:
    return map_npy(folder / array.file, array.type.dtype, array.type.shape, count, complete=complete)


def _map_infos(folder: Path, table: DatasetTable, count: int) -> tuple[Any, IntArray | None]:
    if not table.has_infos:
        return None, None
    ends = map_npy(folder / INFO_ENDS_FILE, INT64, (), count, complete=table.complete)
    lines = map_bytes(folder / INFOS_FILE)
    expected = int(ends[-1])
    if len(lines) < expected or (table.complete and len(lines) != expected):
        raise CorruptArchiveError(
            f"The data set's {folder / INFOS_FILE} is damaged: it has {len(lines)} bytes, expected {expected}."
        )
    return lines, ends


def _select(tree: Tree, part: slice) -> Tree:
    return tree[part] if type(tree) is np.ndarray else select(tree, part)


def _space(description: Any) -> gym.Space[Any] | None:
    return None if description is None else space_from_json(description)
