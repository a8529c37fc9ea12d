"""The older layout of the `imitation` library: one `.npz` file with the arrays of all trajectories joined.

`obs` `[steps + N, ...]`, `acts` `[steps, ...]`, `rews` `[steps]` where there are rewards, `terminal` `[N]`, and
`indices` `[N - 1]` with the step at which each trajectory but the first begins. The library writes `infos` as pickled
objects: they are never read. What is pickled beyond that is refused.

The library compresses its files. Those are opened at once all the same, but loaded as a whole when the first episode
is read. Files written here are not compressed and are read in place.

Source: `imitation.data.serialize.load` of imitation 1.0.1, which still reads the layout, and `types.save` of imitation
0.3, which wrote it.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from rl_framework.checkpoints.plain_values import parse_json
from rl_framework.core.trees import Path as TreePath
from rl_framework.core.trees import Tree, leaves, leaves_with_paths, map_tree
from rl_framework.data.episode import Episode
from rl_framework.data.episode_layout import ArrayType
from rl_framework.data.episode_source import NOTHING, EpisodeSource, IntArray
from rl_framework.data.formats.damage import episode_of, reading
from rl_framework.data.formats.foreign_notes import NOTES_KEY, EpisodeStream, Notes, is_nested
from rl_framework.data.formats.npz_members import NPY, PICKLE, NpzArchive, write_npz
from rl_framework.errors import CorruptArchiveError, UnsafeArchiveError

if TYPE_CHECKING:
    from rl_framework.data.episode_sequence import EpisodeSequence

FIELDS = {"terminal", "indices", "infos"}
MEMBERS = {"observations": "obs", "actions": "acts"}
BYTE, BOOL, INT64 = (
    ArrayType(np.dtype(np.uint8), ()),
    ArrayType(np.dtype(np.bool_), ()),
    ArrayType(np.dtype(np.int64), ()),
)
INFO = np.dtype("S2")
NO_INFO = b"{}"


class ImitationNpzSource:
    """The trajectories of one file.

    Args:
        path: The file.

    Raises:
        CorruptArchiveError: It is truncated, or its arrays disagree.
        UnsafeArchiveError: It could only be read by unpickling it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._archive = NpzArchive(path)
        notes = _notes(self._archive)
        self._layout = notes.layout if notes else None
        self._ends = _ends(self._archive)
        self._terminal = self._archive.read("terminal")
        self.lengths: IntArray = np.diff(self._ends, prepend=0)
        self._check_lengths()
        self.has_rewards = "rews" in self._archive
        self.observation_space: gym.Space[Any] | None = notes.observation_space if notes else None
        self.action_space: gym.Space[Any] | None = notes.action_space if notes else None
        self.metadata: Mapping[str, Any] = notes.metadata if notes else NOTHING

    def read(self, index: int) -> Episode:
        """The episode of a number."""
        stop = int(self._ends[index])
        start = stop - int(self.lengths[index])
        with episode_of(self._path, index), reading(self._path, ValueError):
            return Episode(
                observations=_cut(self._observations, start + index, stop + index + 1),
                actions=_cut(self._actions, start, stop),
                rewards=None if self._rewards is None else _floats(np.array(self._rewards[start:stop])),
                terminated=bool(self._terminal[index]),
            )

    def __reduce__(self) -> tuple[type[ImitationNpzSource], tuple[Path]]:
        return type(self), (self._path.absolute(),)

    @cached_property
    def _observations(self) -> Tree:
        return self._read("obs", self._layout and self._layout.observations)

    @cached_property
    def _actions(self) -> Tree:
        return self._read("acts", self._layout and self._layout.actions)

    @cached_property
    def _rewards(self) -> np.ndarray | None:
        return self._archive.read("rews") if self.has_rewards else None

    def _read(self, field: str, structure: Tree | None) -> Tree:
        return map_tree(self._archive.read, _member_names(field, structure))

    def _check_lengths(self) -> None:
        """Compare the headers of the arrays; the numbers are not read for that."""
        steps, number = int(self._ends[-1]), len(self._ends)
        expected = {"acts": steps, "obs": steps + number, "terminal": number, "rews": steps}
        for name in self._archive.names:
            field = name.split("/")[0]
            if field in expected and self._archive.header(name).shape[:1] != (expected[field],):
                raise CorruptArchiveError(
                    f"{self._path} is damaged: {name!r} has shape {self._archive.header(name).shape}; {number} "
                    f"trajectories with {steps} steps need {expected[field]} entries."
                )
        if self.lengths.min() < 1:
            raise CorruptArchiveError(f"{self._path} is damaged: {int(self.lengths.argmin())} is an empty trajectory.")


class ImitationNpzFormat:
    """The `imitation` library's older layout."""

    name = "imitation_npz"

    def recognises(self, path: Path) -> bool:
        """Whether it is an archive with the arrays of trajectories, or a pickle, as still older versions wrote them.

        Pickles are recognised in order to say that they are not read.
        """
        try:
            with path.open("rb") as file:
                if file.read(1) == PICKLE:
                    return True
            with zipfile.ZipFile(path) as archive:
                return {name.removesuffix(NPY) for name in archive.namelist()} >= FIELDS
        except (OSError, zipfile.BadZipFile):
            return False

    def locate(self, rest: str) -> Path:
        """The path itself."""
        return Path(rest).expanduser()

    def open(self, path: Path) -> EpisodeSource:
        """Look at the headers of the arrays.

        Raises:
            CorruptArchiveError: The file is truncated, or its arrays disagree.
            UnsafeArchiveError: It could only be read by unpickling it.
        """
        with reading(path), path.open("rb") as file:
            if file.read(1) == PICKLE:
                raise UnsafeArchiveError(
                    f"{path} is a pickle; reading it would run code. Nothing was read. If you trust it, load it with "
                    "imitation.data.serialize.load and hand it to imitation.data.serialize.save, which writes a "
                    "layout that is read here."
                )
        return ImitationNpzSource(path)

    def write(self, episodes: EpisodeSequence, path: Path) -> Sequence[str]:
        """Write a new file, one episode at a time, going over the episodes once for each array.

        Raises:
            InvalidInputError: There are none, they differ in their arrays, or hold something else than numbers.
        """
        stream = EpisodeStream(episodes, "the imitation library")
        notes = np.frombuffer(json.dumps(stream.notes()).encode(), np.uint8)
        steps, number = int(episodes.n_transitions), len(episodes)
        starts = np.cumsum(episodes.lengths, dtype=np.int64)[:-1]
        members: dict[str, tuple[ArrayType, int, Any]] = {
            "indices": (INT64, number - 1, [starts]),
            "terminal": (BOOL, number, (np.array([episode.terminated]) for episode in stream)),
            "infos": (ArrayType(INFO, ()), steps, (np.full(length, NO_INFO) for length in episodes.lengths)),
            NOTES_KEY: (BYTE, len(notes), [notes]),
        }
        for field, entries in (("observations", steps + number), ("actions", steps)):
            tree = getattr(stream.layout, field)
            names = leaves(_member_names(MEMBERS[field], tree))
            for name, (where, found) in zip(names, leaves_with_paths(tree), strict=True):
                members[name] = (found, entries, _pieces(stream, field, where))
        if stream.layout.rewards is not None:
            members["rews"] = (stream.layout.rewards, steps, (episode.rewards for episode in stream))
        write_npz(path, members)
        return _losses(stream)


FORMAT = ImitationNpzFormat()


def _notes(archive: NpzArchive) -> Notes | None:
    """This library's notes, if it wrote the file."""
    if NOTES_KEY not in archive:
        return None
    text = archive.read(NOTES_KEY).astype(np.uint8).tobytes()
    return Notes.from_json(parse_json(text, str(archive.path)), str(archive.path))


def _ends(archive: NpzArchive) -> IntArray:
    """The step behind each trajectory's last one. `[N]`"""
    inner = archive.read("indices")
    if inner.ndim != 1 or inner.dtype.kind not in "iuf" or (inner.dtype.kind == "f" and len(inner)):
        raise CorruptArchiveError(f"{archive.path} is damaged: 'indices' is an array of {inner.dtype}, {inner.shape}.")
    first = "acts" if "acts" in archive else "acts/0"
    return np.append(inner, archive.header(first).shape[:1]).astype(np.int64)


def _member_names(field: str, structure: Tree | None) -> Tree:
    """`obs`; or for its parts `obs/0`, `obs/1`, ..., because keys may hold any letters."""
    if not is_nested(structure):
        return field
    numbers = count()
    return map_tree(lambda _: f"{field}/{next(numbers)}", structure)


def _cut(tree: Tree, start: int, stop: int) -> Tree:
    """Some entries, copied: in an archive numbers do not lie at multiples of their size."""
    return map_tree(lambda leaf: np.array(leaf[start:stop]), tree)


def _floats(rewards: np.ndarray) -> np.ndarray:
    return rewards if rewards.dtype.kind == "f" else rewards.astype(np.float64)


def _pieces(stream: EpisodeStream, field: str, where: TreePath) -> Iterator[np.ndarray]:
    for episode in stream:
        part = getattr(episode, field)
        for step in where:
            part = part[step]
        yield part


def _losses(stream: EpisodeStream) -> list[str]:
    nested = is_nested(stream.layout.observations) or is_nested(stream.layout.actions)
    told = "Dicts and tuples have no place in the older layout of the imitation library: only this library reads them."
    return [*stream.lost, *([told] if nested else [])]
