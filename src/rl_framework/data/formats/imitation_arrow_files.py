"""Reads and writes the Arrow streams of a data set of the `imitation` library; see `imitation_arrow`."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import pyarrow as pa

from rl_framework.checkpoints.plain_values import parse_json
from rl_framework.core.trees import Tree, leaves, map_tree
from rl_framework.data.episode import Episode
from rl_framework.data.episode_layout import EpisodeLayout
from rl_framework.data.episode_source import NOTHING, IntArray
from rl_framework.data.formats.arrow_arrays import (
    ListColumn,
    columns_of,
    from_arrow,
    struct_of,
    to_arrow,
    tree_from_arrow,
)
from rl_framework.data.formats.damage import episode_of, reading, refuse_empty
from rl_framework.data.formats.foreign_notes import NOTES_KEY, EpisodeStream, Notes, is_nested
from rl_framework.data.formats.imitation_arrow import INFO_FILE, STATE_FILE
from rl_framework.errors import CorruptArchiveError, InvalidInputError

if TYPE_CHECKING:
    from rl_framework.data.episode_sequence import EpisodeSequence

END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
BATCH_EPISODES = 1000
BATCH_BYTES = 8 * 2**20
NO_INFO = "{}"


class ImitationArrowSource:
    """The episodes of a data set of the `imitation` library, as slices of its files' pages.

    Args:
        folder: The data set.
        files: Its Arrow streams.

    Raises:
        CorruptArchiveError: A file is missing, truncated, or contradicts itself.
        InvalidInputError: There are no episodes, or not the columns of a trajectory.
    """

    def __init__(self, folder: Path, files: Sequence[Path]) -> None:
        self._folder, self._files = folder, tuple(files)
        streams = [_map_stream(file) for file in files]
        notes = _agreed_notes(folder, streams)
        self._rows = [
            _Rows(file, batch, notes.layout if notes else None)
            for file, (_, batches) in zip(files, streams, strict=True)
            for batch in batches
            if len(batch)
        ]
        refuse_empty(folder, len(self._rows))
        self._ends = np.cumsum([len(rows.lengths) for rows in self._rows])
        self.lengths: IntArray = np.concatenate([rows.lengths for rows in self._rows])
        self.has_rewards = self._rows[0].has_rewards
        self.observation_space: gym.Space[Any] | None = notes.observation_space if notes else None
        self.action_space: gym.Space[Any] | None = notes.action_space if notes else None
        self.metadata: Mapping[str, Any] = notes.metadata if notes else NOTHING

    def read(self, index: int) -> Episode:
        """The episode of a number.

        Raises:
            InvalidInputError: Its columns differ in length, or hold no numbers.
        """
        part = int(np.searchsorted(self._ends, index, side="right"))
        rows = self._rows[part]
        first = int(self._ends[part]) - len(rows.lengths)
        with episode_of(rows.path, index), reading(rows.path, pa.ArrowException, ValueError):
            return rows.episode(index - first)

    def __reduce__(self) -> tuple[type[ImitationArrowSource], tuple[Path, Sequence[Path]]]:
        return type(self), (self._folder.absolute(), [file.absolute() for file in self._files])


class _Rows:
    """The episodes of one record batch."""

    def __init__(self, path: Path, batch: pa.RecordBatch, layout: EpisodeLayout | None) -> None:
        self.path = path
        self._types = layout or EpisodeLayout(None, None, None)
        with reading(path, pa.ArrowException, ValueError):
            batch.validate()
            self._observations = _lists(path, _column(path, batch, "obs"), self._types.observations)
            self._actions = _lists(path, _column(path, batch, "acts"), self._types.actions)
            self._terminal = from_arrow(_column(path, batch, "terminal"))
            self.has_rewards = "rews" in batch.schema.names
            self._rewards = _lists(path, _column(path, batch, "rews"), None) if self.has_rewards else None
            self.lengths: IntArray = leaves(self._actions)[0].lengths

    def episode(self, row: int) -> Episode:
        """The episode in a row."""
        return Episode(
            observations=_entries(self._observations, self._types.observations, row),
            actions=_entries(self._actions, self._types.actions, row),
            rewards=None if self._rewards is None else _floats(_entries(self._rewards, self._types.rewards, row)),
            terminated=bool(self._terminal[row]),
        )


def write_imitation_dataset(episodes: EpisodeSequence, path: Path) -> Sequence[str]:
    """Write a new folder; see `ImitationArrowFormat.write`."""
    stream = EpisodeStream(episodes, "the imitation library")
    notes = json.dumps(stream.notes())
    name = "data-00000-of-00001.arrow"
    path.mkdir()
    batches = _batches(stream)
    first = next(batches)
    schema = first.schema.with_metadata({NOTES_KEY: notes})
    with (path / name).open("wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for batch in chain([first], batches):
            writer.write_batch(batch.replace_schema_metadata(schema.metadata))
    _write_json(path / INFO_FILE, {"citation": "", "description": "", "features": None, "homepage": "", "license": ""})
    _write_json(
        path / STATE_FILE, {"_data_files": [{"filename": name}], **_STATE, "_fingerprint": uuid.uuid4().hex[:16]}
    )
    nested = [role for role in ("observations", "actions") if is_nested(getattr(stream.layout, role))]
    return [*stream.lost, *(_NESTED.format(role) for role in nested)]


_STATE: dict[str, Any] = {
    "_format_columns": None,
    "_format_kwargs": {},
    "_format_type": None,
    "_output_all_columns": False,
    "_split": None,
}
_NESTED = (
    "The {} are dicts or tuples, for which the imitation library has no layout: this library reads them back, the "
    "imitation library does not."
)


def _map_stream(path: Path) -> tuple[pa.Schema, list[pa.RecordBatch]]:
    """The schema and the record batches of a stream, over the pages of its file."""
    with reading(path, pa.ArrowException, ValueError), pa.memory_map(str(path)) as file:
        # A stream that was cut between two batches reads as a shorter one; only its end tells.
        file.seek(max(0, file.size() - len(END_OF_STREAM)))
        if file.read() != END_OF_STREAM:
            raise CorruptArchiveError(f"{path} is truncated: the mark at the end of the stream is missing.")
        file.seek(0)
        stream = pa.ipc.open_stream(file)
        return stream.schema, list(stream)


def _agreed_notes(folder: Path, streams: Sequence[tuple[pa.Schema, list[pa.RecordBatch]]]) -> Notes | None:
    """This library's notes, if it wrote the streams."""
    found = (streams[0][0].metadata or {}).get(NOTES_KEY.encode())
    if found is None:
        return None
    notes = Notes.from_json(parse_json(found, str(folder)), str(folder))
    count = sum(len(batch) for _, batches in streams for batch in batches)
    if count != notes.n_episodes:
        raise CorruptArchiveError(f"{folder} is damaged: it has {count} episodes, its notes list {notes.n_episodes}.")
    return notes


def _column(path: Path, batch: pa.RecordBatch, name: str) -> pa.Array:
    if name not in batch.schema.names:
        raise InvalidInputError(
            f"{path} has no column {name!r}; trajectories of the imitation library have obs, acts, infos, terminal "
            f"and perhaps rews. It has: {', '.join(batch.schema.names)}."
        )
    return batch.column(name)


def _lists(path: Path, column: pa.Array, types: Tree | None) -> Tree:
    return map_tree(lambda part: ListColumn.of(part, path), columns_of(column, types))


def _entries(columns: Tree, types: Tree | None, row: int) -> Tree:
    return tree_from_arrow(map_tree(lambda column: column.row(row), columns), types)


def _floats(rewards: np.ndarray) -> np.ndarray:
    """Rewards as floats: whole numbers are stored as such by who collects them in Python lists."""
    return rewards if rewards.dtype.kind == "f" else rewards.astype(np.float64)


def _batches(stream: EpisodeStream) -> Iterator[pa.RecordBatch]:
    """The episodes in portions that fit into memory."""
    portion: list[Episode] = []
    size = 0
    for episode in stream:
        portion.append(episode)
        size += _size(episode)
        if size >= BATCH_BYTES or len(portion) == BATCH_EPISODES:
            yield _batch(portion)
            portion, size = [], 0
    if portion:
        yield _batch(portion)


def _size(episode: Episode) -> int:
    return sum(leaf.nbytes for leaf in (*leaves(episode.observations), *leaves(episode.actions)))


def _batch(episodes: Sequence[Episode]) -> pa.RecordBatch:
    """One row per episode."""
    lengths = [len(episode) for episode in episodes]
    columns = {
        "obs": _join([episode.observations for episode in episodes]),
        "acts": _join([episode.actions for episode in episodes]),
        "infos": _list_column(lengths, pa.repeat(NO_INFO, sum(lengths))),
        "terminal": pa.array([episode.terminated for episode in episodes]),
    }
    if episodes[0].rewards is not None:
        columns["rews"] = _join([episode.rewards for episode in episodes])
    return pa.RecordBatch.from_pydict(columns)


def _join(trees: Sequence[Tree]) -> pa.Array:
    return struct_of(map_tree(_join_arrays, *trees))


def _join_arrays(*arrays: np.ndarray) -> pa.Array:
    return _list_column([len(array) for array in arrays], to_arrow(np.concatenate(arrays)))


def _list_column(lengths: Sequence[int], values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(np.cumsum([0, *lengths]), pa.int32()), values)


def _write_json(path: Path, node: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(node, indent=2), encoding="utf-8")
