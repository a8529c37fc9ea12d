"""Reads and writes D4RL's HDF5 file; see `d4rl`."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import h5py
import numpy as np

from rl_framework.checkpoints.plain_values import parse_json
from rl_framework.core.trees import Tree, leaves, map_tree, select
from rl_framework.data.episode import Episode
from rl_framework.data.episode_layout import ArrayType, EpisodeLayout
from rl_framework.data.episode_source import NOTHING, IntArray
from rl_framework.data.formats.damage import episode_of, refuse_empty
from rl_framework.data.formats.foreign_notes import EpisodeStream, Notes, is_nested
from rl_framework.data.formats.hdf5_trees import Hdf5File, array, datasets, member, tree, write_tree
from rl_framework.errors import CorruptArchiveError, LossyConversionWarning

if TYPE_CHECKING:
    from rl_framework.data.episode_sequence import EpisodeSequence

FIELDS = ("observations", "actions", "rewards", "terminals")
NOTES_PLACE = "metadata/rl_framework"
NEXT, FINAL = "next_observations", "final_observations"
PICTURE = np.dtype(np.uint8)


class D4RLSource:
    """The episodes of a D4RL file.

    Args:
        path: The file.
    """

    has_rewards = True

    def __init__(self, path: Path) -> None:
        self._file = Hdf5File(path)
        with self._file.reading() as file:
            notes = _notes(file, path)
            self._terminal, ends = _read_ends(file)
            starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
            self._last_stored = next((name for name in (FINAL, NEXT) if name in file), None)
            kept = _without_last_observation(path, starts, ends, self._terminal) if self._last_stored is None else ends
            self._layout = notes.layout if notes else None
            _check_sizes(file, path, len(self._terminal), self._layout)
        self._number = np.flatnonzero(kept > starts)
        self._starts, self._stops, self._ends = starts[self._number], kept[self._number], ends[self._number]
        refuse_empty(path, len(self._number))
        self.lengths: IntArray = self._stops - self._starts
        self.observation_space: gym.Space[Any] | None = notes.observation_space if notes else None
        self.action_space: gym.Space[Any] | None = notes.action_space if notes else None
        self.metadata: Mapping[str, Any] = notes.metadata if notes else NOTHING

    def read(self, index: int) -> Episode:
        """The episode of a number."""
        start, stop = int(self._starts[index]), int(self._stops[index])
        with episode_of(self._file.path, index), self._file.reading():
            rewards = self._file.tree("rewards", None)[start:stop]
            return Episode(
                observations=self._observations(index),
                actions=_entries(self._file.tree("actions", self._layout and self._layout.actions), slice(start, stop)),
                rewards=_floats(rewards.reshape(len(rewards))),
                terminated=bool(self._terminal[stop - 1]),
            )

    def __reduce__(self) -> tuple[type[D4RLSource], tuple[Path]]:
        return type(self), (self._file.path.absolute(),)

    def _observations(self, index: int) -> Tree:
        """Observations of an episode, the last one from where it is known."""
        start, stop, end = int(self._starts[index]), int(self._stops[index]), int(self._ends[index])
        types = self._layout and self._layout.observations
        found = self._file.tree("observations", types)
        if stop < end:
            return _entries(found, slice(start, stop + 1))
        before = _entries(found, slice(start, stop))
        if self._last_stored is None:
            last = _entries(found, slice(stop - 1, stop))
        else:
            row = int(self._number[index]) if self._last_stored == FINAL else stop - 1
            last = _entries(self._file.tree(self._last_stored, types), slice(row, row + 1))
        return map_tree(lambda *parts: np.concatenate(parts), before, last)


def has_fields(path: Path) -> bool:
    """Whether an HDF5 file has D4RL's arrays; it never raises."""
    try:
        with h5py.File(path, "r") as file:
            return all(name in file for name in FIELDS)
    except (OSError, RuntimeError, ValueError):
        return False


def write_d4rl(episodes: EpisodeSequence, path: Path) -> Sequence[str]:
    """Write a new file; see `D4RLFormat.write`."""
    stream = EpisodeStream(episodes, "D4RL")
    stream.require_rewards()
    is_pictures = any(leaf.dtype == PICTURE and len(leaf.shape) > 1 for leaf in leaves(stream.layout.observations))
    start, endings = 0, []
    with h5py.File(path, "w") as file:
        arrays = _reserve(file, stream.layout, int(episodes.n_transitions), len(episodes) if is_pictures else None)
        for number, episode in enumerate(stream):
            for name, row, part in _parts(episode, number, start, is_pictures):
                _fill(arrays[name], row, part)
            start += len(episode)
            endings.append(episode.terminated)
        _write_ends(file, episodes.lengths, np.array(endings))
        file[NOTES_PLACE] = np.frombuffer(json.dumps(stream.notes()).encode(), np.uint8)
    return [*_losses(stream, is_pictures), *stream.lost]


def _reserve(file: h5py.File, layout: EpisodeLayout, steps: int, n_final: int | None) -> dict[str, Tree]:
    """Make all arrays, of which nothing is filled yet; gives them by name."""
    contents = {
        "observations": (layout.observations, steps),
        **({NEXT: (layout.observations, steps)} if n_final is None else {FINAL: (layout.observations, n_final)}),
        "actions": (layout.actions, steps),
        "rewards": (layout.rewards, steps),
    }
    for name, (types, count) in contents.items():
        write_tree(file, name, types, partial(_make, count=count))
    return {name: datasets(file, name, types) for name, (types, _) in contents.items()}


def _make(group: h5py.Group, name: str, *, data: ArrayType, count: int) -> None:
    group.create_dataset(name, (count, *data.shape), data.dtype)


def _parts(episode: Episode, number: int, start: int, is_pictures: bool) -> Iterator[tuple[str, int, Tree]]:
    """The arrays of an episode, each with its name in the file and the row where it begins."""
    yield "observations", start, select(episode.observations, slice(None, -1))
    if is_pictures:
        yield FINAL, number, select(episode.observations, slice(-1, None))
    else:
        yield NEXT, start, select(episode.observations, slice(1, None))
    yield "actions", start, episode.actions
    yield "rewards", start, episode.rewards


def _fill(arrays: Tree, row: int, content: Tree) -> None:
    def put(data: h5py.Dataset, entries: np.ndarray) -> None:
        data[row : row + len(entries)] = entries

    map_tree(put, arrays, content)


def _write_ends(file: h5py.File, lengths: IntArray, terminated: np.ndarray) -> None:
    last = np.cumsum(lengths) - 1
    for name, chosen in (("terminals", last[terminated]), ("timeouts", last[~terminated])):
        flags = np.zeros(int(last[-1]) + 1, bool)
        flags[chosen] = True
        file[name] = flags


def _losses(stream: EpisodeStream, is_pictures: bool) -> list[str]:
    lost = []
    if is_nested(stream.layout.observations) or is_nested(stream.layout.actions):
        lost.append("D4RL knows no dicts or tuples: this library reads them back, other software does not.")
    if is_pictures:
        lost.append(
            "D4RL keeps no last observations; they are stored beside it, where only this library finds them, because "
            "next_observations would store every picture twice."
        )
    return lost


def _notes(file: h5py.File, path: Path) -> Notes | None:
    """This library's notes, if it wrote the file."""
    if NOTES_PLACE not in file:
        return None
    text = array(member(file, "metadata"), "rl_framework")[()].astype(np.uint8).tobytes()
    return Notes.from_json(parse_json(text, str(path)), str(path))


def _read_ends(file: h5py.File) -> tuple[np.ndarray, IntArray]:
    """At which steps the task ended `[steps]`, and the step behind each episode's last one `[N]`."""
    terminal = _flags(file, "terminals")
    timeouts = _flags(file, "timeouts") if "timeouts" in file else np.zeros_like(terminal)
    if terminal.shape != timeouts.shape:
        raise CorruptArchiveError(
            f"{file.filename} is damaged: it has {len(terminal)} terminals and {len(timeouts)} timeouts."
        )
    ends = np.flatnonzero(terminal | timeouts).astype(np.int64) + 1
    is_open = len(terminal) > (ends[-1] if len(ends) else 0)
    return terminal, np.append(ends, len(terminal)) if is_open else ends


def _flags(file: h5py.File, name: str) -> np.ndarray:
    flags: np.ndarray = array(file, name)[()].reshape(-1).astype(bool)
    return flags


def _without_last_observation(path: Path, starts: IntArray, ends: IntArray, terminal: np.ndarray) -> IntArray:
    """Where each episode stops if last observations are not known; what that changes is told. `[N]`"""
    if not len(ends):
        return ends
    is_terminal = terminal[ends - 1]
    cut, gone = int(np.sum(~is_terminal)), int(np.sum(~is_terminal & (ends - starts == 1)))
    warnings.warn(
        f"{path} has no next_observations. {cut} episodes that were cut lose their last step, of which {gone} had no "
        f"other one; {len(ends) - cut} episodes that the task ended get their last observation twice.",
        LossyConversionWarning,
        stacklevel=3,
    )
    return np.where(is_terminal, ends, ends - 1)


def _check_sizes(file: h5py.File, path: Path, steps: int, layout: EpisodeLayout | None) -> None:
    """Refuse arrays that are not as long as the flags; their numbers are not read for that."""
    for name in ("observations", NEXT, "actions", "rewards"):
        structure = getattr(layout, name, None)
        found = leaves(tree(file, name, structure)) if name in file else []
        wrong = [data for data in found if len(data) != steps]
        if wrong:
            raise CorruptArchiveError(
                f"{path} is damaged: {wrong[0].name} has {len(wrong[0])} entries, there are {steps} terminals."
            )


def _entries(found: Tree, rows: slice) -> Tree:
    return map_tree(lambda data: data[rows], found)


def _floats(rewards: np.ndarray) -> np.ndarray:
    return rewards if rewards.dtype.kind == "f" else rewards.astype(np.float64)
