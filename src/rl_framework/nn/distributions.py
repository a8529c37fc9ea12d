"""Distributions over actions, made anew from a network's outputs for every batch.

They do the little that learners need, without the checks and the shape bookkeeping of `torch.distributions`, which
at batches of some dozens of rows cost more than the network. Values are a head's targets: choices counted from 0,
bits as 0.0 and 1.0, Box actions in the head's own units.

To make one costs next to nothing, and nothing is computed before it is asked for. Sampling never waits for a device,
so that it may be part of a CUDA graph. Outputs in half precision are taken as float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rl_framework.core.trees import Tree, leaves, map_tree
from rl_framework.errors import InvalidInputError
from rl_framework.nn.continuous_distributions import DiagonalGaussian, PointEstimate, SquashedNormal
from rl_framework.nn.discrete_distributions import Bernoulli, Categorical, MultiCategorical
from rl_framework.nn.distribution import Distribution, RowIndex, check_same_kind

__all__ = [
    "Bernoulli",
    "Categorical",
    "DiagonalGaussian",
    "Distribution",
    "Joint",
    "MultiCategorical",
    "PointEstimate",
    "SquashedNormal",
    "join_distributions",
]


class Joint(Distribution):
    """Independent distributions, one per entry of a Dict or Tuple action.

    Args:
        parts: The distributions, nested as the action is.
    """

    __slots__ = ("parts",)

    def __init__(self, parts: Tree) -> None:
        self.parts = parts

    def log_prob(self, targets: Tree) -> Tensor:
        """Of all entries together. `[B]`"""
        return _total(leaves(map_tree(lambda part, target: part.log_prob(target), self.parts, targets)))

    def entropy(self) -> Tensor:
        """In nats, of all entries together. `[B]`"""
        return _total([part.entropy() for part in leaves(self.parts)])

    def log_prob_and_entropy(self, targets: Tree) -> tuple[Tensor, Tensor]:
        """Both, of all entries together. `[B]` each"""
        pairs: list[tuple[Tensor, Tensor]] = []
        map_tree(lambda part, target: pairs.append(part.log_prob_and_entropy(target)), self.parts, targets)
        return _total([log_prob for log_prob, _ in pairs]), _total([entropy for _, entropy in pairs])

    def mode(self) -> Tree:
        """The most probable target of each entry. `[B, ...]` per leaf"""
        return map_tree(lambda part: part.mode(), self.parts)

    def sample(self, generator: torch.Generator | None = None) -> Tree:
        """A target per entry and row. `[B, ...]` per leaf"""
        return map_tree(lambda part: part.sample(generator), self.parts)

    def kl(self, other: Joint) -> Tensor:
        """In nats, of all entries together. `[B]`"""
        check_same_kind(self, other)
        return _total(leaves(map_tree(lambda part, its: part.kl(its), self.parts, other.parts)))

    def rows(self, index: RowIndex) -> Joint:
        """Those of some rows."""
        return Joint(map_tree(lambda part: part.rows(index), self.parts))

    def joined(self, others: Sequence[Joint]) -> Joint:
        """These and others, one behind the other."""
        trees = [other.parts for other in others]
        return Joint(map_tree(lambda part, *its: part.joined(its), self.parts, *trees))


def join_distributions(parts: Sequence[Distribution]) -> Distribution:
    """Distributions of one kind, one behind the other, as one.

    The numbers are copied, so later steps of an optimiser do not change what comes of it.

    Args:
        parts: At least one.

    Raises:
        InvalidInputError: There is none, they are of several kinds, or their kind cannot be joined.
    """
    if not parts:
        raise InvalidInputError("There are no distributions to join; expected at least one.")
    first, *others = parts
    for other in others:
        check_same_kind(first, other)
    return first.joined(others)


def _total(numbers: list[Tensor]) -> Tensor:
    return numbers[0] if len(numbers) == 1 else torch.stack(numbers).sum(0)
