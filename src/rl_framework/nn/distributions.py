"""Distributions over actions, made anew from a network's outputs for every batch.

They do the little that learners need, without the checks and the shape bookkeeping of `torch.distributions`, which
at batches of some dozens of rows cost more than the network. Values are a head's targets: choices counted from 0,
bits as 0.0 and 1.0, Box actions in the head's own units.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from rl_framework.core.trees import Tree, leaves, map_tree
from rl_framework.functional.log_probabilities import (
    bernoulli_entropy,
    bernoulli_log_prob,
    categorical_entropy,
    categorical_log_prob,
    gaussian_entropy,
    gaussian_log_prob,
)


class Distribution(Protocol):
    """One distribution per row of a batch."""

    def log_prob(self, targets: Tree) -> Tensor:
        """Log-probability, or log-density, of one target per row. `[B]`"""
        ...

    def entropy(self) -> Tensor:
        """Entropy in nats. `[B]`"""
        ...

    def mode(self) -> Tree:
        """The most probable target of each row. `[B, ...]`"""
        ...

    def sample(self, generator: torch.Generator | None = None) -> Tree:
        """One target per row, drawn from torch's global generator unless another is given. `[B, ...]`"""
        ...


class Categorical:
    """One choice out of n.

    Args:
        logits: Unnormalised log-probabilities. `[B, n]`
    """

    __slots__ = ("log_probs",)

    def __init__(self, logits: Tensor) -> None:
        self.log_probs = torch.log_softmax(logits, 1)

    def log_prob(self, targets: Tensor) -> Tensor:
        """Of one choice per row. `[B]`"""
        return categorical_log_prob(self.log_probs, targets)

    def entropy(self) -> Tensor:
        """In nats. `[B]`"""
        return categorical_entropy(self.log_probs)

    def mode(self) -> Tensor:
        """The most probable choice. `[B]`"""
        return self.log_probs.argmax(1)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """A choice per row. `[B]`"""
        return torch.multinomial(self.log_probs.exp(), 1, generator=generator).squeeze(1)


class MultiCategorical:
    """Several independent choices.

    Args:
        logits: Unnormalised log-probabilities, those of all choices side by side. `[B, sum(sizes)]`
        sizes: Number of possibilities of each choice, k of them.
    """

    __slots__ = ("parts",)

    def __init__(self, logits: Tensor, sizes: Sequence[int]) -> None:
        self.parts = [Categorical(part) for part in torch.split(logits, list(sizes), dim=1)]

    def log_prob(self, targets: Tensor) -> Tensor:
        """Of all choices together, `[B, k]` to `[B]`."""
        chosen = (part.log_prob(targets[:, index]) for index, part in enumerate(self.parts))
        return torch.stack(list(chosen)).sum(0)

    def entropy(self) -> Tensor:
        """In nats, of all choices together. `[B]`"""
        return torch.stack([part.entropy() for part in self.parts]).sum(0)

    def mode(self) -> Tensor:
        """The most probable choices. `[B, k]`"""
        return torch.stack([part.mode() for part in self.parts], 1)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Choices per row. `[B, k]`"""
        return torch.stack([part.sample(generator) for part in self.parts], 1)


class Bernoulli:
    """Independent bits.

    Args:
        logits: Log-odds of each bit being 1. `[B, n]`
    """

    __slots__ = ("logits",)

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def log_prob(self, targets: Tensor) -> Tensor:
        """Of all bits together, `[B, n]` to `[B]`."""
        return bernoulli_log_prob(self.logits, targets)

    def entropy(self) -> Tensor:
        """In nats, of all bits together. `[B]`"""
        return bernoulli_entropy(self.logits)

    def mode(self) -> Tensor:
        """The more probable value of each bit. `[B, n]`"""
        return (self.logits > 0).to(self.logits.dtype)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Bits per row. `[B, n]`"""
        return torch.bernoulli(torch.sigmoid(self.logits), generator=generator)


class DiagonalGaussian:
    """Independent normal numbers.

    Args:
        mean: Means. `[B, n]`
        log_std: Logarithms of the standard deviations, the same for all rows. `[n]`
        log_unit: Sum of the logarithms of what one unit of each number is worth in the action's own units; densities
            and entropies are those of the action. 0 if they are the same.
    """

    __slots__ = ("log_std", "log_unit", "mean")

    def __init__(self, mean: Tensor, log_std: Tensor, log_unit: float = 0.0) -> None:
        self.mean = mean
        self.log_std = log_std
        self.log_unit = log_unit

    def log_prob(self, targets: Tensor) -> Tensor:
        """Log-density of all numbers together, `[B, n]` to `[B]`."""
        return gaussian_log_prob(self.mean, self.log_std, targets) - self.log_unit

    def entropy(self) -> Tensor:
        """In nats, of all numbers together. `[B]`"""
        return (gaussian_entropy(self.log_std) + self.log_unit).expand(len(self.mean))

    def mode(self) -> Tensor:
        """The means. `[B, n]`"""
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Numbers per row. `[B, n]`"""
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype)
        return self.mean + self.log_std.exp() * noise


class PointEstimate:
    """Numbers without a spread, for learners that minimise a squared error.

    Its `log_prob` is that of normal numbers with standard deviation 1 without the constant: minus half the squared
    error, so that the learners' losses need no second form.

    Args:
        mean: The numbers. `[B, n]`
    """

    __slots__ = ("mean",)

    def __init__(self, mean: Tensor) -> None:
        self.mean = mean

    def log_prob(self, targets: Tensor) -> Tensor:
        """Minus half the sum of squared errors, `[B, n]` to `[B]`."""
        return -0.5 * (targets - self.mean).square().sum(1)

    def entropy(self) -> Tensor:
        """There is none: zeros. `[B]`"""
        return self.mean.new_zeros(len(self.mean))

    def mode(self) -> Tensor:
        """The numbers. `[B, n]`"""
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Tensor:  # noqa: ARG002  (there is nothing to draw)
        """The numbers, always. `[B, n]`"""
        return self.mean


class Joint:
    """Independent distributions, one per entry of a Dict or Tuple action.

    Args:
        parts: The distributions, nested as the action is.
    """

    __slots__ = ("parts",)

    def __init__(self, parts: Tree) -> None:
        self.parts = parts

    def log_prob(self, targets: Tree) -> Tensor:
        """Of all entries together. `[B]`"""
        found = leaves(map_tree(lambda part, target: part.log_prob(target), self.parts, targets))
        return torch.stack(found).sum(0)

    def entropy(self) -> Tensor:
        """In nats, of all entries together. `[B]`"""
        return torch.stack([part.entropy() for part in leaves(self.parts)]).sum(0)

    def mode(self) -> Tree:
        """The most probable target of each entry. `[B, ...]` per leaf"""
        return map_tree(lambda part: part.mode(), self.parts)

    def sample(self, generator: torch.Generator | None = None) -> Tree:
        """A target per entry and row. `[B, ...]` per leaf"""
        return map_tree(lambda part: part.sample(generator), self.parts)
