"""Draws among millions of entries in proportion to priorities that change all the time."""

from __future__ import annotations

import torch
from torch import Tensor

from rl_framework.errors import InvalidInputError

FAN_OUT = 32
"""Children of a node: wide and flat, since each level costs as many operations, however few entries they have."""


class SumTree:
    """Priorities, and above them levels of sums, each of 32 entries of the level below.

    To draw is to walk down: among the children of a node, the first at which the running sum exceeds what is left of
    the drawn number. All entries of a batch walk together, level by level; nothing waits for the device.

    Source: Schaul et al., Prioritized Experience Replay (2016), appendix B.2.1.

    Args:
        capacity: Number of entries. All priorities are 0 at first.
        device: Where they are.
    """

    def __init__(self, capacity: int, device: torch.device | str = "cpu") -> None:
        self.capacity = capacity
        self._levels = [_nodes(capacity, device)]
        while len(self._levels[-1]) > 1:
            self._levels.append(_nodes(len(self._levels[-1]), device))
        self._leaves = self._levels[0].view(-1)

    @property
    def priorities(self) -> Tensor:
        """A view of all priorities. `[capacity]`, float64"""
        return self._leaves[: self.capacity]

    @property
    def total(self) -> Tensor:
        """The sum of all priorities, a single float64."""
        return self._levels[-1].sum()

    def __getitem__(self, entries: Tensor) -> Tensor:
        """Priorities of entries. `[N]`"""
        return self._leaves.index_select(0, entries)

    def set(self, entries: Tensor, priorities: Tensor) -> None:
        """Give entries new priorities.

        Args:
            entries: `[N]`; of an entry that is given several times, the largest priority counts.
            priorities: Not negative. `[N]`
        """
        self._leaves.index_fill_(0, entries, 0.0)
        self._leaves.scatter_reduce_(0, entries, priorities.double(), "amax")
        for lower, upper in zip(self._levels, self._levels[1:], strict=False):
            entries = entries // FAN_OUT
            upper.view(-1).index_copy_(0, entries, lower.index_select(0, entries).sum(1))

    def load(self, priorities: Tensor) -> None:
        """Give all entries new priorities. `[capacity]`

        Raises:
            InvalidInputError: They are those of another number of entries.
        """
        if len(priorities) != self.capacity:
            raise InvalidInputError(
                f"The priorities are those of {len(priorities)} rows; this replay has {self.capacity}. Make it with "
                "the capacity that it had."
            )
        self.priorities.copy_(priorities)
        for lower, upper in zip(self._levels, self._levels[1:], strict=False):
            upper.view(-1)[: len(lower)] = lower.sum(1)

    def find(self, positions: Tensor) -> Tensor:
        """The entries at which the running sum of priorities exceeds given numbers.

        An entry with priority 0 is never found, unless all are 0.

        Args:
            positions: From 0 to `total`, excluded. `[N]`, float64

        Returns:
            `[N]`, int64
        """
        nodes = torch.zeros_like(positions, dtype=torch.int64)
        for level in reversed(self._levels):
            sums = level.index_select(0, nodes).cumsum(1)
            # Sums of sums are rounded: what exceeds a node by a hair belongs to its last child that is not 0.
            positions = positions.minimum(sums[:, -1].nextafter(positions.new_zeros(())))
            child = (sums <= positions.unsqueeze(1)).sum(1).clamp(max=FAN_OUT - 1)
            before = sums.gather(1, (child - 1).clamp(min=0).unsqueeze(1)).squeeze(1)
            positions = positions - before * (child > 0)
            nodes = nodes * FAN_OUT + child
        return nodes


def _nodes(n_entries: int, device: torch.device | str) -> Tensor:
    """As many nodes as it takes to hold some entries. `[M, 32]`"""
    return torch.zeros(-(-n_entries // FAN_OUT), FAN_OUT, dtype=torch.float64, device=device)
