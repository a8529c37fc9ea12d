"""Reads LeRobot data sets; see `lerobot`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pyarrow as pa
from pyarrow import parquet

from rl_framework.checkpoints.manifest import check_inside
from rl_framework.core.trees import Tree, leaves, map_tree
from rl_framework.data.episode import Episode
from rl_framework.data.episode_source import IntArray
from rl_framework.data.formats.damage import episode_of, read_json, reading, refuse_empty
from rl_framework.data.formats.foreign_notes import Notes
from rl_framework.data.formats.lerobot import INFO_FILE
from rl_framework.data.formats.lerobot_columns import Columns
from rl_framework.data.formats.lerobot_writer import DATA_PATH, FINAL_FILE, NOTES_FILE
from rl_framework.data.formats.parquet_rows import ParquetRows, sorted_files
from rl_framework.errors import CorruptArchiveError, InvalidInputError, LossyConversionWarning

EPISODES_FOLDER = "meta/episodes"
EPISODE_COLUMNS = (
    "episode_index",
    "length",
    "dataset_from_index",
    "dataset_to_index",
    "data/chunk_index",
    "data/file_index",
)
SUPPORTED = "v3."
OPEN_FILES = 8


class LeRobotSource:
    """The episodes of a LeRobot data set.

    Args:
        folder: The data set.

    Raises:
        CorruptArchiveError: A file is missing, truncated, or contradicts another.
        InvalidInputError: It has videos, another version, or no episodes.
        UnsafeArchiveError: It names files outside of its folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        info = _read_info(folder)
        notes, terminated = _read_notes(folder, info)
        self._columns = _columns(folder, info, notes)
        self._terminated = terminated
        self._where = _Places.read(folder, info)
        count = len(self._where.lengths)
        if notes is None:
            _tell_losses(folder, self._where.lengths)
        refuse_empty(folder, count)
        self._numbers = np.flatnonzero(self._where.lengths > 1) if notes is None else np.arange(count)
        refuse_empty(folder, len(self._numbers))
        self.lengths: IntArray = self._where.lengths[self._numbers] - (1 if notes is None else 0)
        self.has_rewards = self._columns.rewards is not None
        self.observation_space: gym.Space[Any] | None = notes.observation_space if notes else None
        self.action_space: gym.Space[Any] | None = notes.action_space if notes else None
        self.metadata: Mapping[str, Any] = notes.metadata if notes else _metadata(info)
        self._open = lru_cache(maxsize=OPEN_FILES)(self._open_file)

    def read(self, index: int) -> Episode:
        """The episode of a number."""
        number = int(self._numbers[index])
        file, start = self._where.file(self._folder, number)
        with episode_of(file, index), reading(file, pa.ArrowException, ValueError):
            rows = self._open(file).read(start, start + int(self._where.lengths[number]))
            self._check_number(rows["episode_index"], number, file)
            return self._with_last(rows, number) if self._terminated is not None else self._without_last(rows)

    def __reduce__(self) -> tuple[type[LeRobotSource], tuple[Path]]:
        return type(self), (self._folder.absolute(),)

    def _open_file(self, file: Path) -> ParquetRows:
        names = [column.name for column in self._columns]
        if file == self._folder / FINAL_FILE:
            return ParquetRows(file, [column.name for column in leaves(self._columns.observations)])
        return ParquetRows(file, [*names, "episode_index"])

    def _check_number(self, found: pa.Array, number: int, file: Path) -> None:
        expected = int(self._where.numbers[number])
        if np.any(found.to_numpy() != expected):
            raise CorruptArchiveError(
                f"{file} is damaged: the rows of episode {expected} are not where they should be."
            )

    def _with_last(self, rows: Mapping[str, pa.Array], number: int) -> Episode:
        """An episode that this library wrote, with its last observation from beside the data."""
        last = self._open(self._folder / FINAL_FILE).read(number, number + 1)
        ends = self._terminated
        return Episode(
            observations=map_tree(
                lambda *parts: np.concatenate(parts),
                _decode(self._columns.observations, rows),
                _decode(self._columns.observations, last),
            ),
            actions=_decode(self._columns.actions, rows),
            rewards=self._rewards(rows),
            terminated=bool(ends is not None and ends[number]),
        )

    def _without_last(self, rows: Mapping[str, pa.Array]) -> Episode:
        """An episode by other software, up to its last observation."""
        rewards = self._rewards(rows)
        return Episode(
            observations=_decode(self._columns.observations, rows),
            actions=map_tree(lambda leaf: leaf[:-1], _decode(self._columns.actions, rows)),
            rewards=None if rewards is None else rewards[:-1],
            terminated=False,
        )

    def _rewards(self, rows: Mapping[str, pa.Array]) -> np.ndarray | None:
        column = self._columns.rewards
        if column is None:
            return None
        found = column.decode(rows[column.name])
        found = found.reshape(len(found))
        return found if found.dtype.kind == "f" else found.astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Places:
    """Where the rows of each episode are.

    Attributes:
        numbers: What the data set calls each episode. `[N]`
        lengths: Rows of each. `[N]`
        starts: The first one, counted in its file. `[N]`
        chunks: Number of the file's folder. `[N]`
        files: Number of the file in it. `[N]`
        pattern: Path of a file, by these numbers.
    """

    numbers: IntArray
    lengths: IntArray
    starts: IntArray
    chunks: IntArray
    files: IntArray
    pattern: str

    @classmethod
    def read(cls, folder: Path, info: Mapping[str, Any]) -> _Places:
        """The table of episodes.

        Raises:
            CorruptArchiveError: It is missing or damaged.
        """
        found = _read_episodes(folder)
        numbers, lengths, first, last, chunks, files = (found[name] for name in EPISODE_COLUMNS)
        if np.any(last - first != lengths) or np.any(lengths < 1) or len(lengths) != info["total_episodes"]:
            raise CorruptArchiveError(
                f"{folder / EPISODES_FOLDER} is damaged: {len(lengths)} episodes, expected {info['total_episodes']}, "
                "or lengths that are not those of their rows."
            )
        starts = first.copy()
        for place in {*zip(chunks.tolist(), files.tolist(), strict=True)}:
            inside = (chunks == place[0]) & (files == place[1])
            starts[inside] -= first[inside].min()
        return cls(numbers, lengths, starts, chunks, files, str(info.get("data_path") or DATA_PATH))

    def file(self, folder: Path, index: int) -> tuple[Path, int]:
        """The file of an episode, and its first row in there.

        Raises:
            CorruptArchiveError: The pattern of paths is none.
            UnsafeArchiveError: The file lies outside of the folder.
        """
        try:
            name = self.pattern.format(chunk_index=int(self.chunks[index]), file_index=int(self.files[index]))
        except (KeyError, ValueError, IndexError, AttributeError) as error:
            raise CorruptArchiveError(f"{folder / INFO_FILE} has no valid data_path: {self.pattern!r}.") from error
        check_inside(name, str(folder / INFO_FILE))
        return folder / name, int(self.starts[index])


def _read_info(folder: Path) -> dict[str, Any]:
    info = read_json(folder / INFO_FILE)
    version = str(info.get("codebase_version"))
    if not version.startswith(SUPPORTED):
        raise InvalidInputError(
            f"{folder} is a LeRobot data set of version {version}; version 3 is read. Convert it with LeRobot: "
            "`python -m lerobot.datasets.v30.convert_dataset_v21_to_v30 --repo-id ...`."
        )
    if not isinstance(info.get("total_episodes"), int) or not isinstance(info.get("total_frames"), int):
        raise CorruptArchiveError(f"{folder / INFO_FILE} is damaged: it does not say how many episodes there are.")
    refuse_empty(folder, info["total_episodes"])
    return info


def _read_notes(folder: Path, info: Mapping[str, Any]) -> tuple[Notes | None, np.ndarray | None]:
    """This library's notes with the endings, unless LeRobot has changed the data set since."""
    place = folder / NOTES_FILE
    if not place.is_file():
        return None, None
    node = read_json(place)
    notes = Notes.from_json(node, str(place))
    if (notes.n_episodes, notes.n_transitions) != (info["total_episodes"], info["total_frames"]):
        return None, None
    terminated = np.array(node.get("terminated"))
    if terminated.shape != (notes.n_episodes,) or terminated.dtype != bool:
        raise CorruptArchiveError(f"{place} is damaged: it does not say how each of the episodes ended.")
    return notes, terminated


def _columns(folder: Path, info: Mapping[str, Any], notes: Notes | None) -> Columns:
    if notes is not None:
        return Columns.of_layout(notes.layout)
    try:
        return Columns.of_features(info["features"])
    except (KeyError, TypeError, AttributeError) as error:
        raise CorruptArchiveError(f"{folder / INFO_FILE} is damaged: {error!r} in its features.") from error


def _read_episodes(folder: Path) -> dict[str, IntArray]:
    """The table of episodes, in their order. `[N]` per column"""
    place = folder / EPISODES_FOLDER
    files = sorted_files(place)
    if not files:
        raise CorruptArchiveError(f"{place} has no files; the table of episodes is missing.")
    with reading(place, pa.ArrowException, ValueError, TypeError):
        parts = [parquet.read_table(file, columns=list(EPISODE_COLUMNS), partitioning=None) for file in files]
        rows = pa.concat_tables(parts).sort_by("episode_index")
        return {name: rows.column(name).to_numpy().astype(np.int64) for name in EPISODE_COLUMNS}


def _tell_losses(folder: Path, lengths: IntArray) -> None:
    single = int(np.sum(lengths == 1))
    warnings.warn(
        f"{folder} has no observation behind the last action, as all data sets of LeRobot: the last action of each of "
        f"{len(lengths)} episodes is left out, and whether the task ended there is not known. {single} episodes have "
        "no other action and are left out.",
        LossyConversionWarning,
        stacklevel=3,
    )


def _decode(columns: Tree, rows: Mapping[str, pa.Array]) -> Tree:
    return map_tree(lambda column: column.decode(rows[column.name]), columns)


def _metadata(info: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: info[key] for key in ("fps", "robot_type") if isinstance(info.get(key), (int, float, str))}
