"""Reads and writes Minari's Arrow files, one folder for each episode; see `minari_format`.

A file has T + 1 rows; the last one holds the last observation, and padding in all other columns.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import pyarrow as pa
from gymnasium import spaces

from rl_framework.core.spaces import leaf_shape
from rl_framework.core.trees import Tree, map_tree
from rl_framework.data.episode import Episode
from rl_framework.data.episode_source import IntArray
from rl_framework.data.formats.arrow_arrays import columns_of, from_arrow, struct_of, to_arrow
from rl_framework.data.formats.damage import peek_json, reading
from rl_framework.data.formats.foreign_notes import EpisodeStream, as_noted
from rl_framework.data.formats.minari_episodes import (
    MinariSource,
    as_in_space,
    make_episode,
    structure_of,
)
from rl_framework.data.formats.minari_metadata import METADATA_FILE, minari_space
from rl_framework.data.formats.minari_spaces import is_picture
from rl_framework.data.formats.picture_files import decode_pictures
from rl_framework.errors import CorruptArchiveError

if TYPE_CHECKING:
    from rl_framework.data.episode_sequence import EpisodeSequence

DATA_FILE = "part-0.arrow"


class MinariArrowSource(MinariSource):
    """The episodes of a Minari data set in Arrow or Parquet files.

    Args:
        folder: The folder with the episodes and the metadata.
    """

    def _read(self, index: int) -> Episode:
        place, types = self._folder / str(index), self._types
        with reading(place, pa.ArrowException, ValueError):
            rows = _read_table(place)
            parts: dict[str, Any] = {
                name: from_arrow(_column(place, rows, name))[:-1] for name in ("rewards", "terminations")
            }
            observations, actions = _column(place, rows, "observations"), _column(place, rows, "actions")
            parts["observations"] = _arrays(observations, types.observations, self.observation_space)
            parts["actions"] = _arrays(actions.slice(0, len(rows) - 1), types.actions, self.action_space)
            return make_episode(parts)

    def _find_lengths(self) -> IntArray:
        return np.array([_length(self._folder / str(index)) for index in range(self._described.n_episodes)], np.int64)


def write_minari_arrow(stream: EpisodeStream, episodes: EpisodeSequence, folder: Path) -> None:
    """Write Minari's folders into a folder."""
    layout = stream.layout
    observation_space = structure_of(minari_space(episodes.observation_space, layout.observations))
    action_space = structure_of(minari_space(episodes.action_space, layout.actions))
    for number, episode in enumerate(stream):
        last = np.arange(len(episode)) == len(episode) - 1
        columns = {
            "observations": struct_of(map_tree(_encode, observation_space, episode.observations)),
            "actions": struct_of(map_tree(_encode, action_space, map_tree(_pad, episode.actions))),
            "rewards": to_arrow(_pad(np.asarray(episode.rewards))),
            "terminations": pa.array(_pad(last & episode.terminated)),
            "truncations": pa.array(_pad(last & episode.truncated)),
        }
        place = folder / str(number)
        place.mkdir()
        rows = pa.RecordBatch.from_pydict(columns)
        with (place / DATA_FILE).open("wb") as file, pa.ipc.new_file(file, rows.schema) as writer:
            writer.write_batch(rows)
        noted = json.dumps({"id": number, "total_steps": len(episode)})
        (place / METADATA_FILE).write_text(noted, encoding="ascii")


def _encode(space: gym.Space[Any], entries: np.ndarray) -> pa.Array:
    """A flat list for each entry; plain numbers only where the space is Discrete, as Minari wants it."""
    return to_arrow(entries if isinstance(space, spaces.Discrete) else entries.reshape(len(entries), -1))


def _pad(entries: np.ndarray) -> np.ndarray:
    return np.concatenate([entries, np.zeros_like(entries[:1])])


def _read_table(place: Path) -> pa.StructArray:
    """All rows of an episode."""
    parts = sorted(place.glob("part-*.arrow")) or sorted(place.glob("part-*.parquet"))
    if not parts:
        raise CorruptArchiveError(f"{place} holds no data of an episode.")
    tables = [_read_file(file) for file in parts]
    rows = pa.concat_tables(tables).combine_chunks().to_struct_array()
    return rows.chunk(0) if isinstance(rows, pa.ChunkedArray) else rows


def _read_file(file: Path) -> pa.Table:
    if file.suffix == ".parquet":
        from pyarrow import parquet

        return parquet.read_table(file, partitioning=None)
    with reading(file, pa.ArrowException, ValueError), pa.memory_map(str(file)) as content:
        table = pa.ipc.open_file(content).read_all()
        table.validate()
        return table


def _column(place: Path, rows: pa.StructArray, name: str) -> pa.Array:
    if rows.type.get_field_index(name) < 0:
        raise CorruptArchiveError(f"{place} has no column {name!r}.")
    return rows.field(name)


def _arrays(column: pa.Array, types: Tree | None, space: gym.Space[Any] | None) -> Tree:
    if types is not None:
        return map_tree(
            lambda found, part: as_noted(found, from_arrow(part), len(part)), types, columns_of(column, types)
        )
    structure = structure_of(space)
    if structure is None:
        return map_tree(from_arrow, columns_of(column))
    return map_tree(_decode, structure, columns_of(column, structure))


def _decode(space: gym.Space[Any], column: pa.Array) -> np.ndarray:
    if is_picture(space) and (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
        return decode_pictures(column.to_pylist(), leaf_shape(space))
    return as_in_space(space, from_arrow(column))


def _length(place: Path) -> int:
    steps = peek_json(place / METADATA_FILE).get("total_steps")
    if isinstance(steps, int):
        return steps
    with reading(place, pa.ArrowException, ValueError):
        return len(_read_table(place)) - 1
