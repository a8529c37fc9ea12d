"""How the entries of a replay lie in memory: all leaves of one number type side by side in one matrix.

A minibatch is then one gather per number type, of which the leaves are views.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rl_framework.core.spaces import check_supported, difference, leaf_shape, map_space, space_from_json, space_to_json
from rl_framework.core.trees import Path, Tree, leaves, leaves_with_paths, map_tree, path_name
from rl_framework.data.replay_storage import type_name
from rl_framework.errors import SpaceError, UnknownOptionError

Space = gym.Space[Any]
STORED_TYPES: dict[str, torch.dtype] = {
    "float16": torch.float32, "float32": torch.float32, "float64": torch.float32, "bool": torch.bool,
    "uint8": torch.uint8, "int8": torch.int8, "int16": torch.int16, "int32": torch.int32, "int64": torch.int64,
    "uint16": torch.int32, "uint32": torch.int64, "uint64": torch.int64,
}  # fmt: skip
"""Number types of spaces, and those in which their values are kept."""


def transition_columns(
    observation_space: Space, action_space: Space, environment_goals: Space | None = None
) -> dict[str, Space]:
    """The columns of a replay of transitions.

    Args:
        observation_space: What is seen.
        action_space: What is done, in the form of `ReplayBatch.actions`: `Box(-1, 1, (A,))`, or a Discrete from 0.
        environment_goals: What the environments ask for beside the goals in the observations, None without goals.
    """
    columns = {
        "observations": observation_space,
        "next_observations": observation_space,
        "actions": action_space,
        "rewards": spaces.Box(-np.inf, np.inf, (), np.float32),
        "terminated": spaces.Box(0, 1, (), np.bool_),  # type: ignore[arg-type]  # Gymnasium takes it
    }
    return columns if environment_goals is None else {**columns, "environment_goals": environment_goals}


@dataclass(frozen=True, slots=True)
class PackedLeaf:
    """Where one leaf lies.

    Attributes:
        group: Its number type, which names the matrix.
        start: Its first column there.
        stop: The column behind its last one.
        shape: Of one value.
    """

    group: torch.dtype
    start: int
    stop: int
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """Neighbouring columns of one matrix, cut into pieces.

    Attributes:
        matrix: Name of the matrix.
        start: Its first column that is needed.
        stop: The column behind the last.
        is_whole: Whether that is all of them.
        widths: Of the pieces, from the first column to the last.
    """

    matrix: str
    start: int
    stop: int
    is_whole: bool
    widths: list[int]


@dataclass(frozen=True, slots=True)
class Piece:
    """Where the values of one leaf are in what was read.

    Attributes:
        group: Number type of their matrix.
        index: Which piece of its span.
        shape: Of one value.
    """

    group: torch.dtype
    index: int
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """How some entries are read.

    Attributes:
        spans: For each number type, the columns that are read.
        leaves: For each entry, where its leaves lie, in its structure.
        pieces: For each entry, the pieces that are its leaves, in its structure.
    """

    spans: dict[torch.dtype, Span]
    leaves: dict[str, Tree]
    pieces: dict[str, Tree]


class PackedColumns:
    """The columns of a replay, packed.

    Args:
        columns: Space of one value of each column.

    Attributes:
        spaces: As given.
        widths: How many columns the matrix of each number type has.

    Raises:
        SpaceError: A leaf is neither Box, Discrete, MultiDiscrete nor MultiBinary.
    """

    def __init__(self, columns: Mapping[str, Space]) -> None:
        self.spaces = dict(columns)
        self.widths: dict[torch.dtype, int] = {}
        for name, space in self.spaces.items():
            check_supported(space, name)
        self._trees = {name: map_space(self._place, space) for name, space in self.spaces.items()}
        self._parts = dict(self._named_parts())
        self._readings: dict[tuple[str, ...], Reading] = {}

    def reading(self, names: Sequence[str]) -> Reading:
        """How columns, or parts of them, are read: `next_observations`, or `next_observations.achieved_goal`.

        Raises:
            UnknownOptionError: There is no such column.
        """
        key = tuple(names)
        if key not in self._readings:
            self._readings[key] = self._make_reading(key)
        return self._readings[key]

    def pack(self, entries: Mapping[str, Tree], count: int, device: torch.device) -> dict[torch.dtype, Tensor]:
        """Entries side by side.

        Args:
            entries: One batch per column, of arrays or tensors. `[count, ...]` per leaf
            count: How many values each has.
            device: Where the result is.

        Returns:
            For each number type one matrix, whose own numbers may be of a type that is yet to be cast. `[count, width]`

        Raises:
            SpaceError: A column is missing or not known, or its values do not have the form of its space.
        """
        if set(entries) != set(self.spaces):
            raise SpaceError(f"Expected the columns {', '.join(self.spaces)}; got {', '.join(entries)}.")
        parts: dict[torch.dtype, list[Tensor]] = {group: [] for group in self.widths}
        for name, tree in self._trees.items():
            for leaf, values in self.matched(name, tree, entries[name], count):
                parts[leaf.group].append(values if values.device == device else values.to(device))
        return {group: torch.cat(found, 1) if len(found) > 1 else found[0] for group, found in parts.items()}

    def matched(self, name: str, tree: Tree, values: Tree, count: int) -> list[tuple[PackedLeaf, Tensor]]:
        """Each leaf with its values, in the number type in which they are given. `[count, leaf width]`

        Raises:
            SpaceError: They do not have its form.
        """
        found: list[tuple[PackedLeaf, Tensor]] = []
        try:
            map_tree(lambda leaf, given: found.append((leaf, _flat(leaf, given, count))), tree, values)
        except (ValueError, KeyError, IndexError, TypeError, RuntimeError) as error:
            shapes = {path_name(path): tuple(np.shape(leaf)) for path, leaf in leaves_with_paths(values)}
            raise SpaceError(
                f"The {name.replace('_', ' ')} do not fit the replay: expected {count} values of "
                f"{self.spaces.get(name, name)}, got the shapes {shapes}. Make the replay for the spaces of these "
                "environments."
            ) from error
        return found

    def difference(self, described: Mapping[str, Any]) -> str | None:
        """How described columns differ from these, in words; None if they are the same."""
        theirs = {name: space_from_json(each) for name, each in described.items()}
        if set(theirs) != set(self.spaces):
            return f"it has the columns {', '.join(theirs)}, expected {', '.join(self.spaces)}"
        for name, space in self.spaces.items():
            found = difference(space, theirs[name])
            if found is not None:
                return f"in the column {name}, {found}"
        return None

    def to_json(self) -> dict[str, Any]:
        """The description that `difference` takes."""
        return {name: space_to_json(space) for name, space in self.spaces.items()}

    def _place(self, space: Space) -> PackedLeaf:
        shape = leaf_shape(space)
        group = STORED_TYPES[np.dtype(space.dtype).name]
        start = self.widths.get(group, 0)
        self.widths[group] = start + int(np.prod(shape, dtype=np.int64))
        return PackedLeaf(group, start, self.widths[group], shape)

    def _named_parts(self) -> Iterator[tuple[str, Tree]]:
        for name, tree in self._trees.items():
            for path, part in _parts_of(tree):
                yield path_name((name, *path)), part

    def _make_reading(self, names: tuple[str, ...]) -> Reading:
        for name in names:
            if name not in self._parts:
                raise UnknownOptionError.of("column of the replay", name, self._parts)
        trees = {name: self._parts[name] for name in names}
        parts: dict[torch.dtype, set[tuple[int, int]]] = {}
        for leaf in leaves(tuple(trees.values())):
            parts.setdefault(leaf.group, set()).add((leaf.start, leaf.stop))
        cuts = {group: _without_gaps(sorted(found)) for group, found in parts.items()}
        return Reading(
            spans={group: self._span(group, found) for group, found in cuts.items()},
            leaves=trees,
            pieces=map_tree(
                lambda leaf: Piece(leaf.group, cuts[leaf.group].index((leaf.start, leaf.stop)), leaf.shape), trees
            ),
        )

    def _span(self, group: torch.dtype, cuts: Sequence[tuple[int, int]]) -> Span:
        start, stop = cuts[0][0], cuts[-1][1]
        is_whole = (start, stop) == (0, self.widths[group])
        return Span(type_name(group), start, stop, is_whole, [high - low for low, high in cuts])


def unpacked(piece: Piece, values: Tensor) -> Tensor:
    """The values of a leaf from its columns, as a view. `[N, width]` to `[N, *shape]`"""
    if len(piece.shape) == 1:
        return values
    return values.squeeze(1) if piece.shape == () else values.view(len(values), *piece.shape)


def _without_gaps(parts: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges of columns, in their order, and those between them."""
    found = [parts[0]]
    for start, stop in parts[1:]:
        if start > found[-1][1]:
            found.append((found[-1][1], start))
        found.append((start, stop))
    return found


def as_tensor(values: Any) -> Tensor:
    """A tensor as it is, an array of any kind as a tensor that may share its memory."""
    if isinstance(values, Tensor):
        return values.detach()
    numbers = np.asarray(values)
    if not numbers.flags.writeable or not numbers.dtype.isnative or any(step < 0 for step in numbers.strides):
        numbers = np.array(numbers, dtype=numbers.dtype.newbyteorder("="))
    return torch.from_numpy(numbers)


def _flat(leaf: PackedLeaf, values: Any, count: int) -> Tensor:
    tensor = as_tensor(values)
    if tuple(tensor.shape) != (count, *leaf.shape):
        raise ValueError(f"shape {tuple(tensor.shape)}")
    return tensor if tensor.dim() == 2 else tensor.reshape(count, leaf.stop - leaf.start)


def _parts_of(tree: Tree, path: Path = ()) -> Iterator[tuple[Path, Tree]]:
    """The tree, the parts of it, and theirs."""
    yield path, tree
    branches = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, tuple) else ()
    for key, part in branches:
        yield from _parts_of(part, (*path, key))
