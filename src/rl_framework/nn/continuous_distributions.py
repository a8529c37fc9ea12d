"""Distributions over numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import Self

from rl_framework.functional.log_probabilities import (
    gaussian_entropy,
    gaussian_kl,
    gaussian_log_prob,
    gaussian_log_prob_and_entropy,
    gaussian_scores,
    largest_squashed,
    mean_squashing_log_slope,
    unsquash,
)
from rl_framework.nn.distribution import Distribution, RowIndex, at_least_single, check_same_kind
from rl_framework.nn.recorded_passes import RecordedFunction, is_recorded, record


class DiagonalGaussian(Distribution):
    """Independent normal numbers. Samples have gradients by the parameters.

    Args:
        mean: Means. `[B, n]`
        log_std: Logarithms of the standard deviations, the same for all rows, `[n]`, or not, `[B, n]`.
        log_unit: Sum of the logarithms of what one unit of each number is worth in the action's own units; densities
            and entropies are those of the action. 0 if they are the same.
    """

    __slots__ = ("log_std", "log_unit", "mean")

    def __init__(self, mean: Tensor, log_std: Tensor, log_unit: float = 0.0) -> None:
        self.mean = at_least_single(mean)
        self.log_std = at_least_single(log_std)
        self.log_unit = log_unit

    def log_prob(self, targets: Tensor) -> Tensor:
        """Log-density of all numbers together, `[B, n]` to `[B]`."""
        return gaussian_log_prob(self.mean, self.log_std, targets) - self.log_unit

    def entropy(self) -> Tensor:
        """In nats, of all numbers together. `[B]`"""
        return (gaussian_entropy(self.log_std) + self.log_unit).expand(len(self.mean))

    def log_prob_and_entropy(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Both, with a gradient that can be taken once. `[B]` each"""
        if is_recorded(self.mean) and self.log_std.is_leaf and not targets.requires_grad:
            return self._recorded_scores(targets)
        log_prob, entropy = gaussian_log_prob_and_entropy(self.mean, self.log_std, targets)
        return (log_prob - self.log_unit, entropy + self.log_unit) if self.log_unit else (log_prob, entropy)

    def mode(self) -> Tensor:
        """The means. `[B, n]`"""
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Numbers per row. `[B, n]`"""
        noise = torch.empty_like(self.mean).normal_(generator=generator)
        return torch.addcmul(self.mean, noise, self.log_std.exp())

    def kl(self, other: DiagonalGaussian) -> Tensor:
        """In nats, of all numbers together. `[B]`"""
        check_same_kind(self, other)
        return gaussian_kl(self.mean, self.log_std, other.mean, other.log_std)

    def rows(self, index: RowIndex) -> Self:
        """Those of some rows."""
        log_std = self.log_std if self.log_std.dim() == 1 else self.log_std[index]
        return type(self)(self.mean[index], log_std, self.log_unit)

    def joined(self, others: Sequence[DiagonalGaussian]) -> Self:
        """These and others, one behind the other; all count in the same units."""
        parts: list[DiagonalGaussian] = [self, *others]
        return type(self)(torch.cat([part.mean for part in parts]), _joined_log_std(parts), self.log_unit)

    def _recorded_scores(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        log_prob, entropy, slopes = gaussian_scores(self.mean, self.log_std, targets)
        if self.log_unit:
            log_prob, entropy = log_prob.sub_(self.log_unit), entropy + self.log_unit
        record(RecordedFunction((self.mean, self.log_std), slopes.gradients, (log_prob, entropy)))
        return log_prob, entropy


class SquashedNormal(DiagonalGaussian):
    """Independent numbers within [-1, 1]: tanh of normal ones. Targets are the squashed numbers.

    Targets at the bounds count as the last numbers before them. The divergence is that of the normal numbers, since
    squashing loses nothing.

    Args:
        mean: Means of the normal numbers. `[B, n]`
        log_std: Logarithms of their standard deviations. `[n]` or `[B, n]`
        log_unit: As for `DiagonalGaussian`.

    Source: the change of variables is that of Haarnoja et al., Soft Actor-Critic, 2018
    (https://arxiv.org/abs/1801.01290), appendix C.
    """

    __slots__ = ()

    def log_prob(self, targets: Tensor) -> Tensor:
        """Log-density of all numbers together, `[B, n]` to `[B]`."""
        numbers, log_slopes = unsquash(targets)
        return super().log_prob(numbers) - log_slopes.sum(1)

    def entropy(self) -> Tensor:
        """In nats, of all numbers together: an estimate without samples, see `mean_squashing_log_slope`. `[B]`"""
        return super().entropy() + mean_squashing_log_slope(self.mean, self.log_std).sum(1)

    def log_prob_and_entropy(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Both; the entropy is the estimate that `entropy` gives. `[B]` each"""
        numbers, log_slopes = unsquash(targets)
        log_prob, entropy = super().log_prob_and_entropy(numbers)
        return log_prob - log_slopes.sum(1), entropy + mean_squashing_log_slope(self.mean, self.log_std).sum(1)

    def mode(self) -> Tensor:
        """The squashed means, which are medians; densities may be greatest at the bounds. `[B, n]`"""
        return _within_bounds(torch.tanh(self.mean))

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Numbers per row, none at a bound. `[B, n]`"""
        return _within_bounds(torch.tanh(super().sample(generator)))


class PointEstimate(Distribution):
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

    def kl(self, other: PointEstimate) -> Tensor:
        """That of normal numbers with standard deviation 1: half the sum of squared differences. `[B]`"""
        check_same_kind(self, other)
        return 0.5 * (self.mean - other.mean).square().sum(1)

    def rows(self, index: RowIndex) -> PointEstimate:
        """Those of some rows."""
        return PointEstimate(self.mean[index])

    def joined(self, others: Sequence[PointEstimate]) -> PointEstimate:
        """These and others, one behind the other."""
        return PointEstimate(torch.cat([self.mean, *(other.mean for other in others)]))


def _joined_log_std(parts: Sequence[DiagonalGaussian]) -> Tensor:
    """Of all rows, or of any row where the same tensor stands for all: a parameter's numbers as they are now."""
    first = parts[0].log_std
    if first.dim() == 1 and all(part.log_std is first for part in parts):
        return first.clone()
    return torch.cat([part.log_std.expand_as(part.mean) for part in parts])


def _within_bounds(squashed: Tensor) -> Tensor:
    edge = largest_squashed(squashed.dtype)
    return squashed.clamp(-edge, edge)
