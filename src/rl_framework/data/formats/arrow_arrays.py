"""Arrays with several axes as Arrow columns and back; where Arrow holds the numbers in one piece, nothing is copied.

An entry of shape `[h, w]` is a nest of lists. Written here, the lists have a fixed size, which takes no further
space; read are those of any size, as long as all lists of a level are of the same length.

Source: the Arrow columnar format (https://arrow.apache.org/docs/format/Columnar.html).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rl_framework.core.trees import Tree, map_tree
from rl_framework.data.formats.foreign_notes import as_noted
from rl_framework.errors import CorruptArchiveError, InvalidInputError

IntArray = npt.NDArray[np.int64]


def to_arrow(entries: np.ndarray) -> pa.Array:
    """A column with one row per entry. `[n, ...]`"""
    numbers = np.ascontiguousarray(entries, dtype=entries.dtype.newbyteorder("="))
    column = pa.array(numbers.reshape(-1))
    for size in reversed(entries.shape[1:]):
        column = pa.FixedSizeListArray.from_arrays(column, size)
    return column


def from_arrow(column: pa.Array) -> np.ndarray:
    """The entries of a column. `[n, ...]`

    Raises:
        InvalidInputError: It holds something else than numbers, has gaps, or its lists differ in length.
        CorruptArchiveError: Its lists point outside of the data.
    """
    shape = [len(column)]
    while is_list(column.type):
        column, size = _unnest(column)
        shape.append(size)
    _refuse_gaps(column)
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise InvalidInputError(f"It holds entries of the type {kind}, expected numbers.")
    numbers: np.ndarray = column.to_numpy(zero_copy_only=False)
    return numbers.reshape(shape)


def tree_from_arrow(columns: Tree, types: Tree | None) -> Tree:
    """The entries of a tree of columns; where types are noted, in these. `[n, ...]` per leaf"""
    if types is None:
        return map_tree(from_arrow, columns)
    return map_tree(lambda found, column: as_noted(found, from_arrow(column), len(column)), types, columns)


def is_list(kind: pa.DataType) -> bool:
    """Whether it is a list of any kind."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def struct_of(tree: Tree) -> pa.Array:
    """One column out of a tree of columns: a struct for a dict, and for a tuple one with numbers as names."""
    if isinstance(tree, dict):
        return _struct([struct_of(part) for part in tree.values()], list(tree))
    if isinstance(tree, tuple):
        return _struct([struct_of(part) for part in tree], [str(index) for index in range(len(tree))])
    return tree


def columns_of(column: pa.Array, structure: Tree | None = None) -> Tree:
    """The tree of columns that `struct_of` joined.

    Args:
        column: The column.
        structure: A tree of the same structure; None to take every struct for a dict.

    Raises:
        KeyError: A part of the structure is not there.
    """
    if isinstance(structure, dict):
        return {key: columns_of(_part(column, key), part) for key, part in structure.items()}
    if isinstance(structure, tuple):
        return tuple(columns_of(_part(column, str(index)), part) for index, part in enumerate(structure))
    if structure is None and pa.types.is_struct(column.type):
        return {field.name: columns_of(_part(column, field.name), None) for field in column.type}
    return column


@dataclass(frozen=True, slots=True)
class ListColumn:
    """A column whose rows are lists.

    Attributes:
        bounds: Where the list of each row starts in the values; behind the last one, its end. `[n + 1]`
        values: The values of all lists.
    """

    bounds: IntArray
    values: pa.Array

    @classmethod
    def of(cls, column: pa.Array, path: Path) -> ListColumn:
        """A column of a file.

        Raises:
            CorruptArchiveError: Its lists do not lie in its values.
            InvalidInputError: It is no column of lists.
        """
        if not is_list(column.type):
            raise InvalidInputError(f"{path} has a column of the type {column.type} where each row should be a list.")
        _refuse_gaps(column)
        if pa.types.is_fixed_size_list(column.type):
            return cls(np.arange(len(column) + 1, dtype=np.int64) * column.type.list_size, column.flatten())
        bounds = column.offsets.to_numpy().astype(np.int64)
        if np.any(np.diff(bounds) < 0) or bounds[0] < 0 or bounds[-1] > len(column.values):
            raise CorruptArchiveError(f"{path} is damaged: its lists do not lie in its data.")
        return cls(bounds, column.values)

    @property
    def lengths(self) -> IntArray:
        """Length of the list in each row. `[n]`"""
        return np.diff(self.bounds)

    def row(self, index: int) -> pa.Array:
        """The values of one row."""
        start, stop = self.bounds[index : index + 2].tolist()
        return self.values.slice(start, stop - start)


def _struct(columns: Sequence[pa.Array], names: Sequence[str]) -> pa.Array:
    return pa.StructArray.from_arrays(columns, names=names)


def _part(column: pa.Array, name: str) -> pa.Array:
    if not pa.types.is_struct(column.type) or column.type.get_field_index(name) < 0:
        raise KeyError(name)
    return column.field(column.type.get_field_index(name))


def _unnest(column: pa.Array) -> tuple[pa.Array, int]:
    """The values of a column of lists, and how many there are in each."""
    _refuse_gaps(column)
    if pa.types.is_fixed_size_list(column.type):
        return column.flatten(), column.type.list_size
    sizes = np.diff(column.offsets.to_numpy())
    if len(sizes) and (np.any(sizes != sizes[0]) or sizes[0] < 0):
        raise InvalidInputError("Its entries differ in shape.")
    return column.flatten(), int(sizes[0]) if len(sizes) else 0


def _refuse_gaps(column: pa.Array) -> None:
    if column.null_count:
        raise InvalidInputError(f"It lacks {column.null_count} values.")
