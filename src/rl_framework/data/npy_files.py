"""NumPy files that grow entry by entry, and are read without being loaded.

Source: the NPY format, version 1.0 (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html).
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Any

import numpy as np

from rl_framework.errors import CorruptArchiveError, InvalidInputError

KINDS = "biufcmMSU"
BUFFER_BYTES = 2**18
ALIGNMENT = 64
LARGEST_COUNT = 2**63 - 1


class NpyStream:
    """A `.npy` file that is written front to back; its header's place is kept until the count is known.

    Args:
        path: The file to make.
        dtype: Type of number.
        shape: Shape of one entry.

    Raises:
        InvalidInputError: The type holds something else than numbers or text.
        OSError: The file cannot be made.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        check_storable(dtype, path.stem)
        self._dtype, self._shape = dtype, shape
        self._header_bytes = len(_header(dtype, shape, LARGEST_COUNT))
        self.count = 0
        self._file = path.open("wb", buffering=BUFFER_BYTES)
        self._file.write(_header(dtype, shape, 0, self._header_bytes))

    def append(self, entries: np.ndarray) -> None:
        """Add entries of the stream's own type and shape. `[n, ...]`"""
        self._file.write(np.ascontiguousarray(entries).reshape(-1).view(np.uint8).data)
        self.count += len(entries)

    def flush(self) -> None:
        """Hand what was added to the operating system, which keeps it if this process dies."""
        self._file.flush()

    def close(self) -> None:
        """Write the count into the header and close the file."""
        if not self._file.closed:
            self._file.seek(0)
            self._file.write(_header(self._dtype, self._shape, self.count, self._header_bytes))
            self._file.close()

    def abandon(self) -> None:
        """Close the file as it is."""
        self._file.close()


def check_storable(dtype: np.dtype[Any], name: str) -> None:
    """Refuse types that a NumPy file holds only as pickles or records.

    Raises:
        InvalidInputError: It is such a type.
    """
    if dtype.kind not in KINDS or dtype.itemsize == 0:
        raise InvalidInputError(
            f"{name} is an array of {dtype}; only arrays of numbers or fixed-width text are stored."
        )


def map_npy(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], count: int, *, complete: bool) -> np.ndarray:
    """The entries of a file as an array over its pages, of which none is read yet.

    Args:
        path: The file.
        dtype: Type of number that it should hold.
        shape: Shape of one entry.
        count: Number of entries that it should hold.
        complete: Whether the file was closed; else it may hold more, and its header does not tell how many.

    Returns:
        An array that cannot be written to. `[count, ...]`

    Raises:
        CorruptArchiveError: It is missing, truncated, or holds something else.
    """
    data, start = _map_file(path, dtype, shape, count if complete else None)
    expected = start + count * _entry_bytes(dtype, shape)
    if len(data) < expected or (complete and len(data) != expected):
        raise CorruptArchiveError(f"The data set's {path} is damaged: it has {len(data)} bytes, expected {expected}.")
    entries: np.ndarray = np.ndarray((count, *shape), dtype, buffer=data, offset=start)
    return entries


def whole_entries(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    """How many whole entries there are in a file that was perhaps not closed.

    Raises:
        CorruptArchiveError: It is missing, or not even its header is whole.
    """
    data, start = _map_file(path, dtype, shape, None)
    return (len(data) - start) // max(1, _entry_bytes(dtype, shape))


def map_bytes(path: Path) -> mmap.mmap | bytes:
    """The content of a file, of which nothing is read yet.

    Raises:
        CorruptArchiveError: It is missing.
    """
    try:
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                return b""
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise CorruptArchiveError(f"The data set's {path} cannot be read: {error.strerror}.") from error


def _map_file(
    path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], count: int | None
) -> tuple[mmap.mmap | bytes, int]:
    """The content, and where the entries start in it."""
    data = map_bytes(path)
    start = len(_header(dtype, shape, LARGEST_COUNT))
    found = bytes(data[:start])
    wanted = _header(dtype, shape, 0 if count is None else count, start)
    # Of a file that was not closed the count may be any; the text before it is always the same.
    same = found[: wanted.index(b"(")] == wanted[: wanted.index(b"(")] if count is None else found == wanted
    if len(found) < start or not same:
        raise CorruptArchiveError(
            f"The data set's {path} is damaged: its header does not announce the {count or ''} entries of {dtype} "
            f"and shape {shape} that the table lists."
        )
    return data, start


def _entry_bytes(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize


def _header(dtype: np.dtype[Any], shape: tuple[int, ...], count: int, size: int = 0) -> bytes:
    """A header of at least `size` bytes, which is a multiple of the alignment."""
    text = f"{{'descr': {dtype.str!r}, 'fortran_order': False, 'shape': {(count, *shape)!r}, }}"
    whole = -(-max(size, len(text) + 11) // ALIGNMENT) * ALIGNMENT
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", whole - 10) + text.encode("ascii").ljust(whole - 11) + b"\n"
