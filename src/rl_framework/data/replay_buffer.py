"""The replay: what happened, row by row, to be learned from again and again.

A ring of rows on one device, or in files that are larger than memory. B environments that step together write B
consecutive rows; rows can be read at once, before their episodes are over. What is done with rows is index work on
tensors of fixed shapes that never waits for the device, so that a CUDA graph can hold it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rl_framework.core.trees import Tree, leaves, map_tree
from rl_framework.data.memory_mapped_replay import MappedStorage
from rl_framework.data.replay_columns import PackedColumns, Space, Span, as_tensor, unpacked
from rl_framework.data.replay_episodes import LAST, STEP, RunningEpisodes, episode_marks
from rl_framework.data.replay_storage import MARKS, MemoryStorage, type_name
from rl_framework.errors import InvalidInputError, SpaceError


class ReplayBuffer:
    """A ring of rows.

    Args:
        capacity: How many rows are kept; the oldest goes first.
        columns: Space of one value of each column; see `transition_columns`. Floats are kept as float32.
        device: Where rows are given out, and kept unless there is a folder.
        folder: Where files are made that hold the rows, instead of memory; None for memory.

    Attributes:
        capacity: As given.
        device: As given.
        total: Number of rows that were ever added: the age of the next one.
        stored: Number of rows that are kept, as a tensor that grows in place. `[]`, int64
        added: `total`, likewise. `[]`, int64

    Raises:
        InvalidInputError: The capacity is not positive, or there is no column.
        SpaceError: A leaf of a column is neither Box, Discrete, MultiDiscrete nor MultiBinary.
    """

    def __init__(
        self,
        capacity: int,
        columns: Mapping[str, Space],
        *,
        device: str | torch.device = "cpu",
        folder: str | Path | None = None,
    ) -> None:
        if capacity < 1 or not columns:
            raise InvalidInputError(
                f"A replay needs a capacity of at least 1 and at least one column; got {capacity} and {len(columns)}."
            )
        self.capacity = capacity
        self.device = torch.device(device)
        self.total = 0
        self.stored = torch.zeros((), dtype=torch.int64, device=self.device)
        self.added = torch.zeros((), dtype=torch.int64, device=self.device)
        self._columns = PackedColumns(columns)
        self._running = RunningEpisodes(capacity)
        self._home = self.device if folder is None else torch.device("cpu")
        self._folder = None if folder is None else Path(os.path.realpath(Path(folder).expanduser()))
        self._opened: MemoryStorage | MappedStorage | None = None
        self._pending: dict[str, Any] | None = None

    def __len__(self) -> int:
        """Number of rows that are kept."""
        return min(self.total, self.capacity)

    @property
    def columns(self) -> Mapping[str, Space]:
        """Space of one value of each column."""
        return self._columns.spaces

    def add(self, entries: Mapping[str, Tree], *, ended: Tensor | npt.NDArray[np.bool_]) -> Tensor:
        """Add one step of B environments.

        Args:
            entries: One batch per column, of tensors or arrays. `[B, ...]` per leaf
            ended: Whether an episode is over with this step, for whatever reason. `[B]`, bool

        Returns:
            Where the rows are. `[B]`, int64

        Raises:
            SpaceError: The entries do not fit the columns.
            InvalidInputError: There are more environments than rows.
        """
        over = as_tensor(ended).cpu().numpy().astype(bool)
        self._check_room(len(over))
        blocks = self._columns.pack(entries, len(over), self._home)
        if len(over) != self._running.stride:
            self.cut()
            self._running.begin(self.total, len(over))
        rows = self._append(blocks, self._running.marks(self.total))
        if over.any():
            self._running.finish(self._marks, self.total, over)
        return rows

    def cut(self) -> None:
        """End the running episodes here: the environments are about to be reset, or to be others."""
        if self._running.are_any(self.total):
            self._storage.before_cutting()
            self._running.finish(self._marks, self.total, np.ones(self._running.stride, bool))

    def add_episode(self, entries: Mapping[str, Tree]) -> Tensor:
        """Add a whole episode; running ones are cut before.

        Args:
            entries: One batch per column, of tensors or arrays, in the order of the steps. `[T, ...]` per leaf

        Returns:
            Where the rows are. `[T]`, int64

        Raises:
            SpaceError: The entries do not fit the columns.
            InvalidInputError: The episode is longer than the replay.
        """
        length = len(leaves(tuple(entries.values()))[0])
        self._check_room(length)
        blocks = self._columns.pack(entries, length, self._home)
        self.cut()
        rows = self._append(blocks, episode_marks(length))
        self._running.begin(self.total, self._running.stride)
        return rows

    def read(self, names: Sequence[str], rows: Tensor) -> dict[str, Tree]:
        """Values of some columns.

        Args:
            names: Columns, or parts of them: `next_observations.achieved_goal`. Reading only what is needed is faster.
            rows: Where. `[N]`, int64

        Returns:
            By name. The tensors are views of memory that is theirs, one block for each number type. `[N, ...]` per leaf

        Raises:
            UnknownOptionError: There is no such column.
        """
        reading, places = self._columns.reading(names), rows.to(self._home)
        pieces = {group: self._gathered(span, places) for group, span in reading.spans.items()}
        read: dict[str, Tree] = map_tree(lambda leaf: unpacked(leaf, pieces[leaf.group][leaf.index]), reading.pieces)
        return read

    def write(self, name: str, rows: Tensor, values: Tree) -> None:
        """Change values that are there.

        Args:
            name: A column, or a part of one.
            rows: Where. `[N]`, int64
            values: What will stand there. `[N, ...]` per leaf

        Raises:
            UnknownOptionError: There is no such column.
            SpaceError: The values do not fit it.
        """
        reading, places = self._columns.reading([name]), rows.to(self._home)
        matched = self._columns.matched(name, reading.leaves[name], values, len(rows))
        self._storage.before_changing(places)
        for leaf, flat in matched:
            part = self._matrix(leaf.group)[:, leaf.start : leaf.stop]
            part.index_copy_(0, places, flat.to(self._home, leaf.group))

    def uniform_rows(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw rows with replacement, each as likely as any other. `[n]`, int64

        Raises:
            InvalidInputError: There are none.
        """
        if self.total == 0:
            raise InvalidInputError("The replay is empty; add rows before rows are drawn.")
        drawn = torch.rand(n, dtype=torch.float64, generator=generator, device=generator.device)
        return (drawn * self.stored).long()

    def ages(self, rows: Tensor) -> Tensor:
        """How many rows had been added before each one. `[N]`, int64"""
        newest = self.added - 1
        return newest - (newest - rows) % self.capacity

    def steps_after(self, rows: Tensor) -> Tensor:
        """How many later steps of the same episode are there, so far. `[N]`, int64"""
        return self._after(rows, *self._places(rows))

    def steps_before(self, rows: Tensor) -> Tensor:
        """How many earlier steps of the same episode are there, still. `[N]`, int64"""
        step, _, stride = self._places(rows)
        return torch.minimum(step, (self.ages(rows) - self.added + self.stored) // stride)

    def later(self, rows: Tensor, steps: Tensor | int) -> Tensor:
        """The rows that are some steps later in the same episode, or earlier.

        Args:
            rows: Where from. `[N]`, int64
            steps: How many; from `-steps_before` to `steps_after`, which is not checked. `[N]`, int64

        Returns:
            `[N]`, int64
        """
        _, _, stride = self._places(rows)
        return (rows + steps * stride) % self.capacity

    def any_later(self, rows: Tensor, draws: Tensor) -> Tensor:
        """The rows themselves, or later ones of their episodes, as draws say: all equally likely for even draws.

        Args:
            rows: Where from. `[N]`, int64
            draws: From 0 to below 1. `[N]`, float64

        Returns:
            `[N]`, int64
        """
        step, last, stride = self._places(rows)
        steps = (draws * (self._after(rows, step, last, stride) + 1)).long()
        return steps.mul_(stride).add_(rows).remainder_(self.capacity)

    def episodes(self, within: int | None = None) -> tuple[Tensor, Tensor]:
        """Episodes that are over and of which all rows are there, the oldest first; the host waits for the device.

        Args:
            within: Only those that began within so many latest rows; None for all.

        Returns:
            Their first rows, and their lengths. `[M]`, `[M]`, int64
        """
        count = len(self) if within is None else min(within, len(self))
        rows = torch.arange(self.total - count, self.total, device=self._home) % self.capacity
        marks = self._marks[rows]
        firsts = rows[(marks[:, STEP] == 0) & (marks[:, LAST] >= 0)]
        return firsts.to(self.device), (self._marks[firsts, LAST].long() + 1).to(self.device)

    def close(self) -> None:
        """Let others have the files; they are opened again when this replay is used again. Nothing without a folder."""
        if isinstance(self._opened, MappedStorage):
            self._pending = self.state_dict()
            self._opened.close()
            self._opened = None

    def state_dict(self) -> dict[str, Any]:
        """A copy of everything; of a replay in a folder what leads back to this moment of its files.

        A folder remembers some of the latest moments, at least two, whatever happens to the process later.
        """
        if self._pending is not None:
            return dict(self._pending)
        starts = self._running.starts.copy()
        state = {"capacity": self.capacity, "columns": self._columns.to_json(), "total": self.total, "starts": starts}
        storage = self._storage
        if isinstance(storage, MappedStorage):
            return {**state, "folder": str(storage.folder), "moment": storage.keep_moment(self.total)}
        rows = {name: matrix[: len(self)].to("cpu", copy=True) for name, matrix in storage.matrices.items()}
        return {**state, "rows": rows}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave; files are not looked for before the replay is used.

        Raises:
            InvalidInputError: It is that of a replay with another capacity, or of one in a folder, or in memory, and
                this one is not.
            SpaceError: It is that of a replay with other columns.
        """
        self._check_state(state)
        if isinstance(self._opened, MappedStorage):
            self._opened.close()
            self._opened = None
        self._set_total(int(state["total"]))
        self._running.starts = np.array(state["starts"], np.int64)
        if self.is_mapped:
            self._pending = dict(state)
            return
        for name, matrix in self._storage.matrices.items():
            matrix[: len(self)].copy_(as_tensor(state["rows"][name]))

    @property
    def is_mapped(self) -> bool:
        """Whether rows lie in files, so that reading them goes through the host."""
        return self._folder is not None

    @property
    def _storage(self) -> MemoryStorage | MappedStorage:
        if self._opened is None:
            self._opened = self._open()
            self._running.reopen(self._opened.matrices[MARKS], self.total)
            self._pending = None
        return self._opened

    def _open(self) -> MemoryStorage | MappedStorage:
        if self._folder is None:
            return MemoryStorage(self.capacity, self._columns.widths, self.device)
        if self._pending is None:
            return MappedStorage.begin(self._folder, self.capacity, self._columns)
        saved = self._pending
        return MappedStorage.resume(
            self._folder,
            self.capacity,
            self._columns,
            moment=saved["moment"],
            total=self.total,
            saved_in=saved["folder"],
        )

    def _check_state(self, state: Mapping[str, Any]) -> None:
        if state["capacity"] != self.capacity:
            raise InvalidInputError(
                f"The saved replay has a capacity of {state['capacity']}, this one of {self.capacity}. A replay cannot "
                "be resized; give it the capacity that it was saved with, or is_saved=False to begin with an empty one."
            )
        found = self._columns.difference(state["columns"])
        if found is not None:
            raise SpaceError(f"The saved replay does not fit this one: {found}.")
        if ("moment" in state) is not self.is_mapped:
            where = f"in the folder {state['folder']}" if "moment" in state else "in memory"
            raise InvalidInputError(
                f"The saved replay lay {where}, this one lies {'in files' if self.is_mapped else 'in memory'}; give it "
                f"{'no' if self.is_mapped else 'that'} folder, or is_saved=False to begin with an empty one."
            )

    @property
    def _marks(self) -> Tensor:
        return self._storage.matrices[MARKS]

    def _matrix(self, group: torch.dtype) -> Tensor:
        return self._storage.matrices[type_name(group)]

    def _places(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Step, last step and stride. `[N]` each, int64"""
        step, last, stride = self._marks.index_select(0, rows.to(self._home)).long().to(self.device).unbind(1)
        return step, last, stride

    def _after(self, rows: Tensor, step: Tensor, last: Tensor, stride: Tensor) -> Tensor:
        """How many later steps there are; of a running episode as many as strides fit between it and the newest row."""
        since = (self.added - 1 - rows).remainder_(self.capacity).floor_divide_(stride)
        return torch.where(last < 0, since, last - step)

    def _gathered(self, span: Span, places: Tensor) -> tuple[Tensor, ...]:
        """Columns of some rows, piece by piece. `[N, width]` each"""
        matrix = self._storage.matrices[span.matrix]
        columns = matrix if span.is_whole else matrix[:, span.start : span.stop]
        return columns.index_select(0, places).to(self.device).split_with_sizes(span.widths, 1)

    def _append(self, blocks: Mapping[torch.dtype, Tensor], marks: Tensor) -> Tensor:
        count = len(marks)
        self._storage.before_adding(self.total, count)
        first = self.total % self.capacity
        for group, block in blocks.items():
            _put(self._matrix(group), first, block)
        _put(self._marks, first, marks.to(self._home))
        self._set_total(self.total + count)
        return (torch.arange(first, first + count, device=self.device)) % self.capacity

    def _check_room(self, count: int) -> None:
        if count > self.capacity:
            raise InvalidInputError(
                f"{count} rows at once do not fit a replay of {self.capacity}; give it a larger capacity."
            )

    def _set_total(self, total: int) -> None:
        self.total = total
        self.added.fill_(total)
        self.stored.fill_(len(self))


def _put(matrix: Tensor, first: int, block: Tensor) -> None:
    """Write rows one after the other, going on from the top where the matrix ends."""
    fitting = min(len(block), len(matrix) - first)
    matrix[first : first + fitting].copy_(block[:fitting])
    if fitting < len(block):
        matrix[: len(block) - fitting].copy_(block[fitting:])
