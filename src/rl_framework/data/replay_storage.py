"""Where the rows of a replay are kept."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

MARKS = "marks"
"""Name of the matrix in which the place of each row in its episode is written."""
N_MARKS = 3
CACHE_LINE = 64
"""Bytes; reading rows is faster where the first one begins with one."""


class MemoryStorage:
    """Matrices in the memory of a device, with one row for each row of a replay.

    On the host they take their memory as rows come; if all rows together cannot find room, that is told at once.

    Args:
        capacity: Number of rows.
        widths: Width of the matrix of each number type.
        device: Where they are.

    Attributes:
        matrices: By the name of their number type, and the marks. `[capacity, width]`
    """

    def __init__(self, capacity: int, widths: Mapping[torch.dtype, int], device: torch.device) -> None:
        if device.type == "cpu":
            _warn_of_too_many(capacity, widths)
        self.matrices: dict[str, Tensor] = {
            name: _zeros(capacity, width, dtype, device) for name, (dtype, width) in matrix_types(widths).items()
        }

    def before_adding(self, age: int, count: int) -> None:
        """Rows of an age and the following ones are about to be written: nothing has to be done in memory."""

    def before_changing(self, rows: Tensor) -> None:
        """Rows are about to be changed: nothing has to be done in memory."""

    def before_cutting(self) -> None:
        """Running episodes are about to be ended: nothing has to be done in memory."""


def _warn_of_too_many(capacity: int, widths: Mapping[torch.dtype, int]) -> None:
    """Tell if the machine has too little memory, where the operating system says how much it has."""
    takes = capacity * sum(dtype.itemsize * width for dtype, width in matrix_types(widths).values())
    has = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else takes
    if takes > has:
        warnings.warn(
            f"A replay of {capacity} rows takes {takes / 1e9:.1f} GB when it is full, and this machine has "
            f"{has / 1e9:.1f} GB. Give a smaller capacity, or a folder to keep the rows in files.",
            stacklevel=2,
        )


def _zeros(capacity: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A matrix of zeros, whose pages on the host take no memory before something is written there."""
    if device.type != "cpu":
        return torch.zeros((capacity, width), dtype=dtype, device=device)
    size = capacity * width * dtype.itemsize
    pages = np.zeros(size + CACHE_LINE, np.uint8)
    first = -pages.ctypes.data % CACHE_LINE
    return torch.from_numpy(pages[first : first + size]).view(dtype).view(capacity, width)


def matrix_types(widths: Mapping[torch.dtype, int]) -> dict[str, tuple[torch.dtype, int]]:
    """Number type and width of each matrix, the marks included."""
    return {**{type_name(dtype): (dtype, width) for dtype, width in widths.items()}, MARKS: (torch.int32, N_MARKS)}


def type_name(dtype: torch.dtype) -> str:
    """Name of the matrix of a number type."""
    return str(dtype).removeprefix("torch.")
