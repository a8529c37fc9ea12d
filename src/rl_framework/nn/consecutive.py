"""Distributions of several steps, seen as those of one long batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rl_framework.core.trees import Tree, map_tree
from rl_framework.nn.distribution import RowIndex
from rl_framework.nn.distributions import Distribution, join_distributions


class Consecutive(Distribution):
    """The rows of several distributions, one after the other.

    Args:
        parts: The distributions.
        counts: Number of rows of each of them.
    """

    __slots__ = ("counts", "parts")

    def __init__(self, parts: Sequence[Distribution], counts: Sequence[int]) -> None:
        self.parts = list(parts)
        self.counts = list(counts)

    def log_prob(self, targets: Tree) -> Tensor:
        """Of one target per row. `[N]`"""
        pieces = self._split(targets)
        return torch.cat([part.log_prob(piece) for part, piece in zip(self.parts, pieces, strict=True)])

    def entropy(self) -> Tensor:
        """In nats. `[N]`"""
        return torch.cat([part.entropy() for part in self.parts])

    def log_prob_and_entropy(self, targets: Tree) -> tuple[Tensor, Tensor]:
        """Both. `[N]` each"""
        return self.log_prob(targets), self.entropy()

    def kl(self, other: Consecutive) -> Tensor:
        """Divergence from another one of as many parts, in nats. `[N]`"""
        return torch.cat([one.kl(two) for one, two in zip(self.parts, other.parts, strict=True)])

    def mode(self) -> Tree:
        """The most probable target of each row. `[N, ...]`"""
        return self._joined(lambda part: part.mode())

    def sample(self, generator: torch.Generator | None = None) -> Tree:
        """One target per row. `[N, ...]`"""
        return self._joined(lambda part: part.sample(generator))

    def rows(self, index: RowIndex) -> Distribution:
        """Those of some rows, as one ordinary distribution."""
        return self.joined([]).rows(index)

    def joined(self, others: Sequence[Consecutive]) -> Distribution:
        """These and others, one behind the other, as one ordinary distribution."""
        return join_distributions([part for one in (self, *others) for part in one.parts])

    def _joined(self, draw: Callable[[Distribution], Tree]) -> Tree:
        return map_tree(lambda *leaf: torch.cat(leaf), *(draw(part) for part in self.parts))

    def _split(self, targets: Tree) -> list[Tree]:
        pieces: list[Any] = []
        first = 0
        for count in self.counts:
            last = first + count
            pieces.append(map_tree(lambda leaf, low=first, high=last: leaf[low:high], targets))
            first = last
        return pieces
