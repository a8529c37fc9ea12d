"""Where the rows of a replay are kept."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

MARKS = "marks"
"""Name of the matrix in which the place of each row in its episode is written."""
N_MARKS = 3


class MemoryStorage:
    """Matrices in the memory of a device, with one row for each row of a replay.

    Args:
        capacity: Number of rows.
        widths: Width of the matrix of each number type.
        device: Where they are.

    Attributes:
        matrices: By the name of their number type, and the marks. `[capacity, width]`
    """

    def __init__(self, capacity: int, widths: Mapping[torch.dtype, int], device: torch.device) -> None:
        self.matrices: dict[str, Tensor] = {
            name: torch.zeros((capacity, width), dtype=dtype, device=device)
            for name, (dtype, width) in matrix_types(widths).items()
        }

    def before_adding(self, age: int, count: int) -> None:
        """Rows of an age and the following ones are about to be written: nothing has to be done in memory."""

    def before_changing(self, rows: Tensor) -> None:
        """Rows are about to be changed: nothing has to be done in memory."""

    def before_cutting(self) -> None:
        """Running episodes are about to be ended: nothing has to be done in memory."""


def matrix_types(widths: Mapping[torch.dtype, int]) -> dict[str, tuple[torch.dtype, int]]:
    """Number type and width of each matrix, the marks included."""
    return {**{type_name(dtype): (dtype, width) for dtype, width in widths.items()}, MARKS: (torch.int32, N_MARKS)}


def type_name(dtype: torch.dtype) -> str:
    """Name of the matrix of a number type."""
    return str(dtype).removeprefix("torch.")
