"""NumPy archives (`.npz`) read without pickles and, where their members are not compressed, without loading them.

Sources: the NPY format (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html); the ZIP format's
local file header (APPNOTE.TXT 6.3, section 4.3.7).
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from rl_framework.data.episode_layout import ArrayType
from rl_framework.data.formats.damage import reading
from rl_framework.errors import CorruptArchiveError, UnsafeArchiveError

LOCAL_HEADER = struct.Struct("<26xHH")
NPY = ".npy"
PICKLE = b"\x80"


@dataclass(frozen=True, slots=True)
class MemberHeader:
    """What the header of an array in an archive says.

    Attributes:
        shape: Shape of the array.
        dtype: Type of number; one that holds objects means a pickle.
        fortran_order: Whether the first axis varies fastest.
        size: Bytes of the header itself.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool
    size: int


class NpzArchive:
    """The arrays of an archive.

    Args:
        path: The file.

    Raises:
        CorruptArchiveError: It is no archive, or a damaged one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(path, zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
            entries = {info.filename.removesuffix(NPY): info for info in archive.infolist()}
        self._entries = entries

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    @property
    def names(self) -> list[str]:
        """Names of the arrays."""
        return list(self._entries)

    def header(self, name: str) -> MemberHeader:
        """What the header of an array says; its numbers are not read.

        Raises:
            CorruptArchiveError: There is no such array, or the file is damaged.
            UnsafeArchiveError: It is a pickle, or an array of pickled objects.
        """
        with self._opened(name) as file:
            found = _read_header(file, f"{name!r} in {self.path}")
        if found.dtype.hasobject:
            raise UnsafeArchiveError(
                f"{name!r} in {self.path} is an array of pickled objects; reading it would run code. Nothing was read."
            )
        return found

    def read(self, name: str) -> np.ndarray:
        """An array: over the file's pages where it is not compressed, else loaded.

        Raises:
            CorruptArchiveError: There is no such array, or the file is damaged.
            UnsafeArchiveError: It is a pickle, or an array of pickled objects.
        """
        header = self.header(name)
        if self._entries[name].compress_type == zipfile.ZIP_STORED and header.shape and 0 not in header.shape:
            return self._map(name, header)
        with self._opened(name) as file:
            loaded: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
        return loaded

    def _map(self, name: str, header: MemberHeader) -> np.ndarray:
        entry = self._entries[name]
        with reading(self.path, struct.error), self.path.open("rb") as file:
            file.seek(entry.header_offset)
            name_bytes, extra_bytes = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
        start: int = entry.header_offset + LOCAL_HEADER.size + name_bytes + extra_bytes + header.size
        with reading(self.path, ValueError):
            numbers: np.ndarray = np.memmap(
                self.path, header.dtype, "r", start, header.shape, "F" if header.fortran_order else "C"
            )
        return numbers

    @contextmanager
    def _opened(self, name: str) -> Iterator[IO[bytes]]:
        if name not in self._entries:
            raise CorruptArchiveError(f"{self.path} has no array {name!r}; it has: {', '.join(self.names) or 'none'}.")
        with (
            reading(self.path, zipfile.BadZipFile, zlib.error, ValueError, NotImplementedError),
            zipfile.ZipFile(self.path) as archive,
            archive.open(self._entries[name]) as file,
        ):
            yield file


def write_npz(path: Path, members: Mapping[str, tuple[ArrayType, int, Iterable[np.ndarray]]]) -> None:
    """Write an archive piece by piece, not compressed, so that its arrays can be read without loading them.

    Args:
        path: The file to make.
        members: By name: the type of its entries, how many there are, and the entries in pieces `[n, ...]`.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, (found, count, pieces) in members.items():
            with archive.open(name + NPY, "w", force_zip64=True) as file:
                header = {"descr": found.dtype.str, "fortran_order": False, "shape": (count, *found.shape)}
                np.lib.format.write_array_header_1_0(file, header)
                for piece in pieces:
                    file.write(np.ascontiguousarray(piece, found.dtype).tobytes())


def _read_header(file: IO[bytes], where: str) -> MemberHeader:
    """The header at the start of a file, behind which the numbers follow."""
    magic = file.peek(1)[:1] if isinstance(file, zipfile.ZipExtFile) else b""
    if magic == PICKLE:
        raise UnsafeArchiveError(f"{where} is a pickle; reading it would run code. Nothing was read.")
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise CorruptArchiveError(f"{where} is in version {version} of the NPY format, which holds no plain numbers.")
    shape, fortran_order, dtype = readers[version](file)
    return MemberHeader(shape, dtype, fortran_order, file.tell())
