"""Nested arrays in HDF5 files: a group for each dict or tuple. Only what lies in the file itself is read.

HDF5 can point to other files (external links, external storage, virtual data sets); a file that does is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from rl_framework.core.trees import Tree, map_tree
from rl_framework.data.formats.damage import reading
from rl_framework.errors import CorruptArchiveError, InvalidInputError, UnsafeArchiveError

NUMBERS = "biuf"
TUPLE_PART = "_index_{}"
CACHE_BYTES = 2**24


class Hdf5File:
    """A file that is opened when it is first read, once in each process.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: h5py.File | None = None
        self._process = 0
        self._trees: dict[str, Tree] = {}

    @contextmanager
    def reading(self) -> Iterator[h5py.File]:
        """The open file; damage that is found in the block is told with the file's name.

        Raises:
            CorruptArchiveError: The file cannot be read.
        """
        with reading(self.path, RuntimeError, ValueError, TypeError):
            if self._file is None or self._process != os.getpid():
                self._file, self._process = h5py.File(self.path, "r", rdcc_nbytes=CACHE_BYTES), os.getpid()
                self._trees.clear()
            yield self._file

    def tree(self, name: str, structure: Tree | None) -> Tree:
        """As the function of that name, for a member of the file itself; what was found is kept open."""
        if name not in self._trees or self._process != os.getpid():
            with self.reading() as file:
                self._trees[name] = tree(file, name, structure)
        return self._trees[name]


def member(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    """A member of a group that lies in the same file.

    Raises:
        CorruptArchiveError: There is none of that name.
        UnsafeArchiveError: It lies, or its numbers lie, in another file.
    """
    link = group.get(name, getlink=True)
    if link is None:
        raise CorruptArchiveError(f"{_where(group)}/{name} is missing.")
    if isinstance(link, h5py.ExternalLink):
        raise UnsafeArchiveError(f"{_where(group)}/{name} points to another file. Nothing was read.")
    found = group[name]
    if isinstance(found, h5py.Dataset) and _lies_elsewhere(found):
        raise UnsafeArchiveError(f"The numbers of {_where(found)} lie in another file. Nothing was read.")
    return found


def array(group: h5py.Group, name: str) -> h5py.Dataset:
    """An array of numbers in a group; its numbers are not read yet.

    Raises:
        CorruptArchiveError: There is none of that name, or it is something else.
        UnsafeArchiveError: It holds objects, or its numbers lie in another file.
    """
    return _numbers(member(group, name))


def tree(group: h5py.Group, name: str, structure: Tree | None = None) -> Tree:
    """The arrays below a member of a group, as a tree; their numbers are not read yet.

    Args:
        group: The group.
        name: Name of the member.
        structure: A tree of the same structure, e.g. of spaces; None to go by the names of groups.

    Raises:
        CorruptArchiveError: A part is missing, or no array.
        UnsafeArchiveError: An array holds objects, or its numbers lie in another file.
    """
    return map_tree(_numbers, datasets(group, name, structure))


def datasets(group: h5py.Group, name: str, structure: Tree | None = None) -> Tree:
    """As `tree`, whatever the arrays hold."""
    found = member(group, name)
    if isinstance(found, h5py.Dataset):
        return found
    if isinstance(structure, dict):
        return {key: datasets(found, key, part) for key, part in structure.items()}
    if isinstance(structure, tuple):
        return tuple(datasets(found, TUPLE_PART.format(index), part) for index, part in enumerate(structure))
    names = list(found)
    if names and set(names) == {TUPLE_PART.format(index) for index in range(len(names))}:
        return tuple(datasets(found, TUPLE_PART.format(index)) for index in range(len(names)))
    return {key: datasets(found, key) for key in names}


def write_tree(group: h5py.Group, name: str, content: Tree, make: Any = h5py.Group.create_dataset) -> None:
    """Write nested arrays as a member of a group.

    Args:
        group: The group.
        name: Name of the member.
        content: The tree.
        make: Writes a leaf: called with the group, the name, and `data=` the leaf.

    Raises:
        InvalidInputError: A key is no name that HDF5 can hold.
    """
    if isinstance(content, tuple):
        content = {TUPLE_PART.format(index): part for index, part in enumerate(content)}
    if not isinstance(content, dict):
        make(group, name, data=content)
        return
    inner = group.require_group(name)
    for key, part in content.items():
        write_tree(inner, check_name(key), part, make)


def check_name(key: Any) -> str:
    """A key as a name in HDF5.

    Raises:
        InvalidInputError: It is empty, `.`, or holds a slash or a NUL.
    """
    if not isinstance(key, str) or key in ("", ".") or "/" in key or "\0" in key:
        raise InvalidInputError(
            f"The key {key!r} is no name that an HDF5 file can hold: expected text without '/'. Rename it with "
            "sequence.map, or save in the format 'rl_framework'."
        )
    return key


def _numbers(found: h5py.Group | h5py.Dataset) -> h5py.Dataset:
    if not isinstance(found, h5py.Dataset):
        raise CorruptArchiveError(f"{_where(found)} is a group, expected an array.")
    dtype, shape = found.dtype, found.shape
    if dtype.hasobject:
        raise UnsafeArchiveError(f"{_where(found)} holds objects, expected numbers. Nothing was read.")
    if dtype.kind not in NUMBERS or not shape:
        raise CorruptArchiveError(f"{_where(found)} is an array of {dtype}, {shape}; expected numbers.")
    return found


def _lies_elsewhere(found: h5py.Dataset) -> bool:
    """Whether a data set is virtual, or its numbers are in another file."""
    described = found.id.get_create_plist()
    return bool(described.get_layout() == h5py.h5d.VIRTUAL or described.get_external_count() > 0)


def _where(found: h5py.Group | h5py.Dataset) -> str:
    return f"{found.file.filename}: {found.name.rstrip('/')}"
