"""Memory that one pass through a network leaves to the next.

The operating system clears memory that is new to a process page by page, which takes as long as what is computed into
it; memory that was in use a moment ago is even in the processor's cache.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

import torch
from torch import Tensor

MOST_NUMBERS = 2**22
"""What is kept for later, of each thread: 16 MB of float32."""


class Scratch(threading.local):
    """Matrices on the CPU that are borrowed and given back; each thread has its own.

    What is borrowed and never given back is freed like any tensor.
    """

    def __init__(self) -> None:
        self._free: dict[tuple[int, int, torch.dtype], list[Tensor]] = {}
        self._n_numbers = 0

    def borrow(self, n_rows: int, n_columns: int, dtype: torch.dtype) -> Tensor:
        """A matrix with anything in it. `[n_rows, n_columns]`"""
        free = self._free.get((n_rows, n_columns, dtype))
        if not free:
            return torch.empty(n_rows, n_columns, dtype=dtype)
        self._n_numbers -= n_rows * n_columns
        return free.pop()

    def give_back(self, matrices: Iterable[Tensor]) -> None:
        """Take back what was borrowed, which nobody reads any more."""
        for matrix in matrices:
            if matrix.numel() > MOST_NUMBERS:
                continue
            if self._n_numbers + matrix.numel() > MOST_NUMBERS:
                self._free, self._n_numbers = {}, 0
            self._free.setdefault((*matrix.shape, matrix.dtype), []).append(matrix)
            self._n_numbers += matrix.numel()


SCRATCH = Scratch()
