"""How many threads torch divides an operation among: more than one is slower where operations are small."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

LARGE = 2**17
"""Numbers in an operation's result from which several threads pay, on the processors that were tried."""


@contextmanager
def threads_for(n_numbers: int) -> Iterator[None]:
    """A block whose operations give about so many numbers each: one thread for few, torch's own choice for many.

    Waking a second thread for an operation of microseconds takes longer than the operation.

    Args:
        n_numbers: Rows that pass through a network at once, times the width of its widest layer.
    """
    n_threads = torch.get_num_threads()
    if n_threads == 1 or n_numbers >= LARGE:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
