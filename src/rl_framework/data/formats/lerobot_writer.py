"""Writes LeRobot data sets; see `lerobot`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from rl_framework.core.trees import Tree, leaves, select
from rl_framework.data.episode import Episode
from rl_framework.data.formats.foreign_notes import EpisodeStream, is_nested
from rl_framework.data.formats.lerobot import INFO_FILE
from rl_framework.data.formats.lerobot_columns import DONE, INDEX_COLUMNS, Columns
from rl_framework.data.formats.lerobot_statistics import RunningStatistics

if TYPE_CHECKING:
    from rl_framework.data.episode_sequence import EpisodeSequence

VERSION = "v3.0"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_FILE = "meta/episodes/chunk-000/file-000.parquet"
TASKS_FILE = "meta/tasks.parquet"
STATS_FILE = "meta/stats.json"
NOTES_FILE = "meta/rl_framework/notes.json"
FINAL_FILE = "meta/rl_framework/final_observations.parquet"
FILES_PER_CHUNK = 1000
FILE_MEGABYTES = 100
GROUP_BYTES = 2**18
DEFAULT_FPS = 30
LARGEST_STATISTICS = 1000
NO_LAST = (
    "LeRobot keeps no observation behind the last action and no difference between an episode that the task ended and "
    "one that was cut: both are stored beside its files, where only this library finds them."
)


def write_lerobot(episodes: EpisodeSequence, path: Path) -> Sequence[str]:
    """Write a new folder; see `LeRobotFormat.write`."""
    stream = EpisodeStream(episodes, "LeRobot")
    columns = Columns.of_layout(stream.layout)
    fps = _told_fps(episodes.metadata)
    for file in (EPISODES_FILE, FINAL_FILE):
        (path / file).parent.mkdir(parents=True)
    terminated = []
    with _Writer(path, columns, fps or DEFAULT_FPS) as writer:
        for episode in stream:
            writer.add(episode)
            terminated.append(episode.terminated)
    writer.write_tables(str(episodes.metadata.get("task") or episodes.metadata.get("environment_id") or "unknown"))
    _write_json(path / NOTES_FILE, stream.notes(terminated=terminated))
    return [*_losses(stream, fps), *stream.lost]


class _Writer:
    """A data set that grows: episodes are gathered to row groups, row groups to files."""

    def __init__(self, path: Path, columns: Columns, fps: float) -> None:
        self._path, self._columns, self._fps = path, columns, fps
        self._statistics = {
            column.name: RunningStatistics(is_picture=column.is_picture)
            for column in columns
            if column.is_picture or column.size <= LARGEST_STATISTICS
        }
        self._files = _DataFiles(path)
        self._group: list[Episode] = []
        self._group_bytes = 0
        self._lengths: list[int] = []
        self._file_of_episode: list[int] = []

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        try:
            if kind is None and self._group:
                self._write_group()
        finally:
            self._files.close()

    def add(self, episode: Episode) -> None:
        """Add an episode."""
        self._group.append(episode)
        self._group_bytes += sum(leaf.nbytes for leaf in (*leaves(episode.observations), *leaves(episode.actions)))
        if self._group_bytes >= GROUP_BYTES:
            self._write_group()

    def write_tables(self, task: str) -> None:
        """Write what LeRobot wants to know of the files."""
        _write_json(self._path / INFO_FILE, _info(self._columns, self._lengths, self._fps))
        _write_json(self._path / STATS_FILE, {name: one.to_json() for name, one in self._statistics.items()})
        parquet.write_table(_tasks_table(task), self._path / TASKS_FILE)
        parquet.write_table(_episodes_table(self._lengths, self._file_of_episode, task), self._path / EPISODES_FILE)

    def _write_group(self) -> None:
        group, lengths = self._group, [len(episode) for episode in self._group]
        rows: dict[str, pa.Array] = {}
        for column, entries in zip(self._columns, _entries(group), strict=True):
            rows[column.name] = column.encode(entries)
            if column.name in self._statistics:
                self._statistics[column.name].add(entries)
        rows |= _index_columns(lengths, len(self._lengths), sum(self._lengths), self._fps)
        last = _join([select(episode.observations, slice(-1, None)) for episode in group])
        final = {column.name: column.encode(part) for column, part in zip(self._columns, last, strict=False)}
        self._file_of_episode += [self._files.write(rows, final, self._group_bytes)] * len(group)
        self._lengths += lengths
        self._group, self._group_bytes = [], 0


class _DataFiles:
    """The files that row groups go into."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._steps: parquet.ParquetWriter | None = None
        self._final: parquet.ParquetWriter | None = None
        self._bytes = 0
        self._index = -1

    def write(self, rows: dict[str, pa.Array], final: dict[str, pa.Array], size: int) -> int:
        """Write a row group of steps, and one of last observations; gives the number of the file that holds the steps.

        Args:
            rows: The columns of the steps.
            final: The columns of the last observations.
            size: Bytes of the numbers in the rows, from which it follows when to begin another file.
        """
        steps, last = pa.table(rows), pa.table(final)
        if self._steps is None or self._bytes >= FILE_MEGABYTES * 2**20:
            self._steps = self._next_file(steps.schema)
        if self._final is None:
            self._final = _open(self._path / FINAL_FILE, last.schema)
        self._steps.write_table(steps, row_group_size=len(steps))
        self._final.write_table(last, row_group_size=len(last))
        self._bytes += size
        return self._index

    def close(self) -> None:
        """Complete the files."""
        for file in (self._steps, self._final):
            if file is not None:
                file.close()

    def _next_file(self, schema: pa.Schema) -> parquet.ParquetWriter:
        if self._steps is not None:
            self._steps.close()
        self._index, self._bytes = self._index + 1, 0
        chunk_index, file_index = divmod(self._index, FILES_PER_CHUNK)
        place = self._path / DATA_PATH.format(chunk_index=chunk_index, file_index=file_index)
        place.parent.mkdir(parents=True, exist_ok=True)
        return _open(place, schema)


def _open(path: Path, schema: pa.Schema) -> parquet.ParquetWriter:
    """A file with minima and maxima of the numbers of steps alone: those of pictures would be pictures."""
    told = [name for name in INDEX_COLUMNS if name in schema.names]
    return parquet.ParquetWriter(path, schema, compression="zstd", write_statistics=told)


def _entries(group: Sequence[Episode]) -> list[np.ndarray]:
    """The arrays of some episodes joined, in the order of columns; of observations all but the last. `[steps, ...]`"""
    rewards = [episode.rewards for episode in group if episode.rewards is not None]
    return [
        *_join([select(episode.observations, slice(None, -1)) for episode in group]),
        *_join([episode.actions for episode in group]),
        *([np.concatenate(rewards)] if rewards else []),
    ]


def _join(trees: Sequence[Tree]) -> list[np.ndarray]:
    return [np.concatenate(parts) for parts in zip(*(leaves(tree) for tree in trees), strict=True)]


def _index_columns(lengths: Sequence[int], first_episode: int, first_step: int, fps: float) -> dict[str, pa.Array]:
    """The columns that say which step is which."""
    frames = np.concatenate([np.arange(length) for length in lengths])
    episodes = np.repeat(np.arange(first_episode, first_episode + len(lengths)), lengths)
    steps = np.arange(first_step, first_step + len(frames))
    done = np.isin(np.arange(len(frames)), np.cumsum(lengths) - 1)
    values = (done, frames / fps, frames, episodes, steps, np.zeros_like(steps))
    types = {DONE: "bool", **INDEX_COLUMNS}
    return {name: pa.array(value.astype(kind)) for (name, kind), value in zip(types.items(), values, strict=True)}


def _info(columns: Columns, lengths: Sequence[int], fps: float) -> dict[str, Any]:
    features = {column.name: column.feature() for column in columns}
    further = {name: {"dtype": kind, "shape": [1], "names": None} for name, kind in INDEX_COLUMNS.items()}
    return {
        "codebase_version": VERSION,
        "robot_type": None,
        "total_episodes": len(lengths),
        "total_frames": sum(lengths),
        "total_tasks": 1,
        "chunks_size": FILES_PER_CHUNK,
        "data_files_size_in_mb": FILE_MEGABYTES,
        "video_files_size_in_mb": FILE_MEGABYTES,
        "fps": fps,
        "splits": {"train": f"0:{len(lengths)}"},
        "data_path": DATA_PATH,
        "video_path": None,
        "features": features | {DONE: {"dtype": "bool", "shape": [1], "names": None}} | further,
    }


def _episodes_table(lengths: Sequence[int], files: Sequence[int], task: str) -> pa.Table:
    """One row per episode: where its steps are."""
    ends = np.cumsum(lengths)
    count, of_file = len(lengths), np.array(files, np.int64)
    return pa.table(
        {
            "episode_index": np.arange(count),
            "tasks": pa.array([[task]] * count),
            "length": np.array(lengths, np.int64),
            "dataset_from_index": ends - lengths,
            "dataset_to_index": ends,
            "data/chunk_index": of_file // FILES_PER_CHUNK,
            "data/file_index": of_file % FILES_PER_CHUNK,
            "meta/episodes/chunk_index": np.zeros(count, np.int64),
            "meta/episodes/file_index": np.zeros(count, np.int64),
        }
    )


def _tasks_table(task: str) -> pa.Table:
    """The tasks, in pandas' way of marking the column that is the index."""
    described = {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64"}
    index = {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object"}
    marks = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [described | {"metadata": None}, index | {"metadata": None}],
    }
    table = pa.table({"task_index": pa.array([0], pa.int64()), "task": pa.array([task])})
    return table.replace_schema_metadata({"pandas": json.dumps(marks)})


def _told_fps(metadata: Mapping[str, Any]) -> float | None:
    """Frames per second, if the metadata tell them."""
    for key in ("fps", "render_fps"):
        known = metadata.get(key)
        if isinstance(known, (int, float)) and known > 0:
            return known
    return None


def _losses(stream: EpisodeStream, fps: float | None) -> list[str]:
    lost = [NO_LAST]
    if fps is None:
        lost.append(
            f"LeRobot wants to know the frames per second, which the metadata do not tell under 'fps'; {DEFAULT_FPS} "
            "is written."
        )
    if is_nested(stream.layout.actions):
        lost.append("The actions are dicts or tuples, of which LeRobot's policies know nothing.")
    return lost


def _write_json(path: Path, node: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(node), encoding="utf-8")
