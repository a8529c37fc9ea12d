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
    """Tensors on the CPU that are borrowed and given back; each thread has its own.

    What is borrowed and never given back is freed like any tensor.
    """

    def __init__(self) -> None:
        self._free: dict[tuple[torch.Size, torch.dtype], list[Tensor]] = {}
        self._n_numbers = 0

    def borrow(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """A tensor with anything in it. `[*shape]`"""
        free = self._free.get((torch.Size(shape), dtype))
        if not free:
            return torch.empty(shape, dtype=dtype)
        found = free.pop()
        self._n_numbers -= found.numel()
        return found

    def give_back(self, tensors: Iterable[Tensor]) -> None:
        """Take back what was borrowed, which nobody reads any more."""
        for tensor in tensors:
            n_numbers = tensor.numel()
            if n_numbers > MOST_NUMBERS:
                continue
            if self._n_numbers + n_numbers > MOST_NUMBERS:
                self._free, self._n_numbers = {}, 0
            self._free.setdefault((tensor.shape, tensor.dtype), []).append(tensor)
            self._n_numbers += n_numbers


SCRATCH = Scratch()
