"""Rows out of the middle of Parquet files: only the row groups around them are read, and the last ones kept.

Source: https://parquet.apache.org/docs/file-format/.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from rl_framework.data.formats.damage import reading
from rl_framework.errors import CorruptArchiveError

KEPT_GROUPS = 4


class ParquetRows:
    """The rows of some columns of a file.

    Args:
        path: The file.
        columns: Names of the columns.

    Raises:
        CorruptArchiveError: The file is missing or damaged, or a column is not there.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._path, self._columns = path, list(columns)
        with reading(path, pa.ArrowException, ValueError):
            self._file = parquet.ParquetFile(path, memory_map=True)
            found = self._file.schema_arrow.names
            sizes = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        missing = [name for name in self._columns if name not in found]
        if missing:
            raise CorruptArchiveError(f"{path} has no column {missing[0]!r}; it has: {', '.join(found)}.")
        self._starts = np.cumsum([0, *sizes]).tolist()
        self._groups: dict[int, pa.Table] = {}

    def read(self, start: int, stop: int) -> dict[str, pa.Array]:
        """Rows `start` to `stop`, by column.

        Raises:
            CorruptArchiveError: There are not as many, or they cannot be read.
        """
        if not 0 <= start < stop <= self._starts[-1]:
            raise CorruptArchiveError(f"{self._path} has {self._starts[-1]} rows; rows {start} to {stop} are missing.")
        first, last = bisect_right(self._starts, start) - 1, bisect_right(self._starts, stop - 1) - 1
        rows = pa.concat_tables([self._group(number) for number in range(first, last + 1)])
        rows = rows.slice(start - self._starts[first], stop - start)
        return {name: _one_piece(rows.column(name)) for name in self._columns}

    def _group(self, number: int) -> pa.Table:
        if number not in self._groups:
            while len(self._groups) >= KEPT_GROUPS:
                self._groups.pop(next(iter(self._groups)))
            with reading(self._path, pa.ArrowException, ValueError):
                self._groups[number] = self._file.read_row_group(number, columns=self._columns, use_threads=False)
        return self._groups[number]


def _one_piece(column: pa.ChunkedArray) -> pa.Array:
    joined = column.combine_chunks()
    return joined.chunk(0) if isinstance(joined, pa.ChunkedArray) else joined


def sorted_files(folder: Path) -> list[Path]:
    """The Parquet files of a table in several files, as LeRobot lays them out, in order."""
    return sorted(folder.glob("*/*.parquet"), key=os.fspath)
