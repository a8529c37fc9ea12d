"""Writes this library's own layout episode by episode, in constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import gymnasium as gym
import numpy as np

from rl_framework.core.trees import Tree, leaves, map_tree
from rl_framework.data.episode import Episode
from rl_framework.data.episode_layout import EpisodeLayout, check_same_layout
from rl_framework.data.formats.memory_mapped_table import (
    INFO_ENDS_FILE,
    INFOS_FILE,
    LENGTHS_FILE,
    TERMINATED_FILE,
    DatasetTable,
    StoredArray,
    described_space,
    encode_metadata,
)
from rl_framework.data.npy_files import NpyStream
from rl_framework.data.stored_infos import encode_infos
from rl_framework.errors import InvalidInputError

FileType = TypeVar("FileType", NpyStream, BinaryIO)
INT64, BOOL = np.dtype(np.int64), np.dtype(np.bool_)


class MemoryMappedWriter:
    """A data set that grows. What was appended is readable after each `publish`, also if this process dies then.

    Args:
        folder: An empty folder.
        observation_space: Space of one observation, if known.
        action_space: Space of one action, if known.
        metadata: What else is known, as JSON values.

    Raises:
        InvalidInputError: The metadata are no JSON values.
    """

    def __init__(
        self,
        folder: Path,
        *,
        observation_space: gym.Space[Any] | None = None,
        action_space: gym.Space[Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self._folder = folder
        self._known: dict[str, Any] = {"metadata": dict(metadata or {})}
        encode_metadata(self._known["metadata"])
        self._lost: list[str] = []
        for role, space in (("observation", observation_space), ("action", action_space)):
            self._known[f"{role}_space"] = described_space(space, role, self._lost)
        self._lost_infos: dict[str, str] = {}
        self._layout: EpisodeLayout | None = None
        self._files: _Files | None = None
        self.n_episodes = 0
        self.n_transitions = 0

    def append(self, episode: Episode) -> None:
        """Add an episode.

        Raises:
            InvalidInputError: It has other arrays than the first one; the field is named.
            OSError: The disk refused.
        """
        layout = EpisodeLayout.of(episode)
        if self._files is None or self._layout is None:
            table = DatasetTable.of(layout, episode.infos is not None, **self._known)
            self._layout, self._files = layout, _Files(self._folder, table)
            self._files.flush()
            table.write(self._folder)
        check_same_layout(self._layout, layout, who=f"Episode {self.n_episodes}")
        if (episode.infos is not None) != self._files.table.has_infos:
            raise InvalidInputError(f"Episode {self.n_episodes}: either all episodes have infos, or none has.")
        self._lost_infos |= self._files.append(episode)
        self.n_episodes += 1
        self.n_transitions += len(episode)

    def publish(self) -> None:
        """Hand everything to the operating system, the list of lengths last."""
        if self._files is not None:
            self._files.flush()

    def finish(self) -> Sequence[str]:
        """Complete the data set.

        Returns:
            What could not be stored, one sentence each.

        Raises:
            InvalidInputError: There is no episode.
            OSError: The disk refused.
        """
        if self._files is None:
            raise InvalidInputError("There are no episodes to store.")
        self._files.close()
        counted = replace(self._files.table, n_episodes=self.n_episodes, n_transitions=self.n_transitions)
        replace(counted, complete=True).write(self._folder)
        return [*self._lost, *_sentences(self._lost_infos)]

    def abandon(self) -> None:
        """Close the files as they are."""
        if self._files is not None:
            self._files.abandon()


class _Files:
    """The open files of a data set that grows."""

    def __init__(self, folder: Path, table: DatasetTable) -> None:
        self.table = table
        self._opened: list[NpyStream | BinaryIO] = []
        try:
            self._observations = self._arrays(folder, leaves(table.observations))
            self._actions = self._arrays(folder, leaves(table.actions))
            self._rewards = None if table.rewards is None else self._arrays(folder, [table.rewards])[0]
            if table.has_infos:
                self._info_lines = self._note((folder / INFOS_FILE).open("wb"))
                self._info_ends = self._note(NpyStream(folder / INFO_ENDS_FILE, INT64, ()))
            self._terminated = self._note(NpyStream(folder / TERMINATED_FILE, BOOL, ()))
            # The lengths are flushed last: the episodes that they list are there.
            self._lengths = self._note(NpyStream(folder / LENGTHS_FILE, INT64, ()))
        except BaseException:
            self.abandon()
            raise

    def append(self, episode: Episode) -> dict[str, str]:
        """Add an episode; gives the infos that could not be stored, each with its type."""
        _append_leaves(self._observations, self.table.observations, episode.observations)
        _append_leaves(self._actions, self.table.actions, episode.actions)
        if self._rewards is not None and episode.rewards is not None:
            self._rewards.append(episode.rewards)
        lost = self._append_infos(episode.infos) if episode.infos is not None else {}
        self._terminated.append(np.array([episode.terminated]))
        self._lengths.append(np.array([len(episode)], dtype=np.int64))
        return lost

    def flush(self) -> None:
        """Hand everything to the operating system, in the order in which the files were opened."""
        for file in self._opened:
            file.flush()

    def close(self) -> None:
        """Complete the files."""
        for file in self._opened:
            file.close()

    def abandon(self) -> None:
        """Close the files as they are."""
        for file in self._opened:
            file.abandon() if isinstance(file, NpyStream) else file.close()

    def _append_infos(self, infos: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        line, lost = encode_infos(infos)
        self._info_lines.write(line)
        self._info_ends.append(np.array([self._info_lines.tell()], dtype=np.int64))
        return lost

    def _arrays(self, folder: Path, arrays: Sequence[StoredArray]) -> list[NpyStream]:
        return [self._note(NpyStream(folder / array.file, array.type.dtype, array.type.shape)) for array in arrays]

    def _note(self, file: FileType) -> FileType:
        self._opened.append(file)
        return file


def write_episodes(folder: Path, episodes: Iterable[Episode], **known: Any) -> Sequence[str]:
    """Write a whole data set into a new folder.

    Args:
        folder: The folder to make.
        episodes: The episodes, taken one at a time.
        **known: `observation_space`, `action_space` and `metadata`, as far as they are known.

    Returns:
        What could not be stored, one sentence each.

    Raises:
        InvalidInputError: There are no episodes, or they do not have the same arrays.
        OSError: The disk refused.
    """
    folder.mkdir()
    writer = MemoryMappedWriter(folder, **known)
    try:
        for episode in episodes:
            writer.append(episode)
        return writer.finish()
    finally:
        writer.abandon()


def _append_leaves(streams: Sequence[NpyStream], structure: Tree, tree: Tree) -> None:
    """In the structure's order: the keys of an episode's dicts may come in another one."""
    arrays = leaves(map_tree(lambda _, leaf: leaf, structure, tree))
    for stream, array in zip(streams, arrays, strict=True):
        stream.append(array)


def _sentences(lost: Mapping[str, str]) -> list[str]:
    if not lost:
        return []
    names = ", ".join(f"{key!r} ({kind})" for key, kind in sorted(lost.items()))
    return [f"Of the infos, these are left out, because they are neither numbers nor text: {names}."]
