"""What stood in the rows of a replay before they were written over, so that a killed run can go back."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rl_framework.data.replay_episodes import IntArray
from rl_framework.errors import ArchiveError, CorruptArchiveError

HEAD = struct.Struct("<8sqqI4x")
MAGIC = b"replay\x00\x01"


class ReplayJournal:
    """A file of rows as they were, in the order in which they were changed.

    A record is complete on the disk before its rows are changed. Undone are the records from the last one to the
    first, so that a row that was changed twice is what it was before the first change.

    Args:
        path: The file; it is made with the first record.

    Attributes:
        path: As given.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def n_bytes(self) -> int:
        """Size of the file."""
        return self.path.stat().st_size if self.path.exists() else 0

    def record(self, rows: IntArray, matrices: Mapping[str, Tensor]) -> None:
        """Keep what stands in some rows. `[N]`

        Raises:
            ArchiveError: It cannot be written, so the rows must not be changed.
        """
        index = torch.from_numpy(rows)
        parts = [rows.tobytes(), *(_bytes(matrix.index_select(0, index)) for matrix in matrices.values())]
        checksum = 0
        for part in parts:
            checksum = zlib.crc32(part, checksum)
        head = HEAD.pack(MAGIC, len(rows), sum(map(len, parts)), checksum)
        before = self.n_bytes
        try:
            with self.path.open("ab") as file:
                file.writelines((head, *parts))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            with suppress(OSError):
                os.truncate(self.path, before)
            raise ArchiveError(
                f"What the replay is about to write over cannot be kept in {self.path}: {error}. Make room on the disk."
            ) from error

    def undo(self, matrices: Mapping[str, Tensor]) -> None:
        """Put everything back.

        Raises:
            CorruptArchiveError: The file is damaged elsewhere than at its end.
        """
        for offset, count, _ in reversed(list(self._records())):
            with self.path.open("rb") as file:
                file.seek(offset)
                rows = torch.from_numpy(np.frombuffer(bytearray(file.read(8 * count)), np.int64))
                for matrix in matrices.values():
                    old = torch.frombuffer(bytearray(file.read(_row_bytes(matrix) * count)), dtype=matrix.dtype)
                    matrix.index_copy_(0, rows, old.view(count, matrix.shape[1]))

    def clear(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)

    def _records(self) -> Iterator[tuple[int, int, int]]:
        """Offset of the content, number of rows and number of bytes of each complete record.

        The last one may have been cut short by the death of its writer, who then had changed none of its rows.
        """
        size = self.n_bytes
        if size == 0:
            return
        with self.path.open("rb") as file:
            while file.tell() + HEAD.size <= size:
                magic, count, length, checksum = HEAD.unpack(file.read(HEAD.size))
                offset = file.tell()
                ends = offset + length if magic == MAGIC and length >= 0 else size
                if ends > size or magic != MAGIC or _checksum(file.read(length)) != checksum:
                    if ends < size:
                        raise CorruptArchiveError(f"The journal {self.path} of the replay is damaged at byte {offset}.")
                    return
                yield offset, count, length


def _bytes(block: Tensor) -> bytes:
    return block.contiguous().view(torch.uint8).numpy().tobytes()


def _row_bytes(matrix: Tensor) -> int:
    return matrix.shape[1] * matrix.element_size()


def _checksum(content: bytes) -> int:
    return zlib.crc32(content)
