"""Logarithms of probabilities and densities, entropies and divergences, as functions of distributions' parameters.

The last axis holds the parts of one value, which are independent of each other; results have one number per row.

Where learners want a log-probability and an entropy of the same rows, the two functions that give both at once have
gradients that are written out: at a batch of thousands of rows they take half to two thirds of the time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # torch's own convention

from rl_framework.errors import InvalidInputError

HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)
GAUSSIAN_ENTROPY = 0.5 + HALF_LOG_TWO_PI
LOG_TWO = math.log(2.0)
VECTOR_WIDTH = 16
MANY_LOGITS = 1024
HERMITE_NODES = (1.355626179974266, 2.8569700138728056)
HERMITE_WEIGHTS = (8.0 / 15.0, 0.22207592200561257, 0.011257411327720677)


def normalized_log_probs(logits: Tensor) -> Tensor:
    """Normalised log-probabilities of choices, from unnormalised ones. `[B, n]` to `[B, n]`

    On the CPU many rows of few choices are laid out choice by choice, which is up to nine times as fast.
    """
    if _lies_better_by_choice(logits):
        return torch.log_softmax(logits.t(), 0).t()
    return torch.log_softmax(logits, 1)


def categorical_log_prob(log_probs: Tensor, choices: Tensor) -> Tensor:
    """Log-probability of one choice per row.

    Args:
        log_probs: Normalised log-probabilities of all choices. `[B, n]`
        choices: Which one was made, counted from 0. `[B]`

    Returns:
        `[B]`
    """
    return log_probs.gather(1, choices.unsqueeze(1)).squeeze(1)


def categorical_entropy(log_probs: Tensor) -> Tensor:
    """Entropy of one choice per row, in nats; log-probabilities must be finite. `[B, n]` to `[B]`."""
    return -(log_probs.exp() * log_probs).sum(1)


def categorical_kl(log_probs: Tensor, other_log_probs: Tensor) -> Tensor:
    """Divergence of one choice per row from another distribution, in nats; both must be finite. `[B, n]` to `[B]`."""
    return (log_probs.exp() * (log_probs - other_log_probs)).sum(1)


def categorical_log_prob_and_entropy(logits: Tensor, choices: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability of one choice per row, and entropy of all of them, with a gradient that is written out.

    With p the probabilities, H the entropy, g and h the gradients by log-probability and entropy, that by the logits
    is g (1[choice] - p) - h p (log p + H). It can be taken once; `categorical_log_prob` and `categorical_entropy` can
    be differentiated any number of times.

    Args:
        logits: Unnormalised log-probabilities of all choices. `[B, n]`
        choices: Which one was made, counted from 0. `[B]`

    Returns:
        Log-probability `[B]` and entropy in nats `[B]`.
    """
    found: tuple[Tensor, Tensor] = _CategoricalScores.apply(logits, choices)  # type: ignore[no-untyped-call]  # torch's
    return found


def bernoulli_log_prob(logits: Tensor, bits: Tensor) -> Tensor:
    """Log-probability of rows of independent bits.

    Args:
        logits: Log-odds of each bit being 1. `[B, n]`
        bits: 0.0 or 1.0. `[B, n]`

    Returns:
        `[B]`
    """
    return -F.binary_cross_entropy_with_logits(logits, bits, reduction="none").sum(1)


def bernoulli_entropy(logits: Tensor) -> Tensor:
    """Entropy of rows of independent bits, in nats. `[B, n]` to `[B]`."""
    return (F.softplus(logits) - logits * torch.sigmoid(logits)).sum(1)


def bernoulli_kl(logits: Tensor, other_logits: Tensor) -> Tensor:
    """Divergence of rows of independent bits from others, in nats. `[B, n]` to `[B]`."""
    log_odds = torch.sigmoid(logits) * (logits - other_logits)
    return (log_odds - F.softplus(logits) + F.softplus(other_logits)).sum(1)


def gaussian_log_prob(mean: Tensor, log_std: Tensor, values: Tensor) -> Tensor:
    """Log-density of rows of independent normal numbers.

    Args:
        mean: Means. `[B, n]`
        log_std: Logarithms of the standard deviations. `[n]` or `[B, n]`
        values: Where to take the density. `[B, n]`

    Returns:
        `[B]`
    """
    deviations = (values - mean) * torch.exp(-log_std)
    return -0.5 * deviations.square().sum(1) - (log_std + HALF_LOG_TWO_PI).sum(-1)


def gaussian_entropy(log_std: Tensor) -> Tensor:
    """Differential entropy of independent normal numbers, in nats. `[..., n]` to `[...]`."""
    return (log_std + GAUSSIAN_ENTROPY).sum(-1)


def gaussian_kl(mean: Tensor, log_std: Tensor, other_mean: Tensor, other_log_std: Tensor) -> Tensor:
    """Divergence of rows of independent normal numbers from others, in nats.

    Args:
        mean: Means. `[B, n]`
        log_std: Logarithms of the standard deviations. `[n]` or `[B, n]`
        other_mean: The others' means. `[B, n]`
        other_log_std: The others' logarithms of the standard deviations. `[n]` or `[B, n]`

    Returns:
        `[B]`
    """
    log_ratio = log_std - other_log_std
    shift = (mean - other_mean) * torch.exp(-other_log_std)
    return (0.5 * (torch.exp(2.0 * log_ratio) + shift.square() - 1.0) - log_ratio).sum(1)


def gaussian_log_prob_and_entropy(mean: Tensor, log_std: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Log-density and entropy of rows of independent normal numbers, with a gradient that is written out.

    It can be taken once; `gaussian_log_prob` and `gaussian_entropy` can be differentiated any number of times.

    Args:
        mean: Means. `[B, n]`
        log_std: Logarithms of the standard deviations. `[n]` or `[B, n]`
        values: Where to take the density. `[B, n]`

    Returns:
        Log-density `[B]` and entropy in nats `[B]`.
    """
    found: tuple[Tensor, Tensor] = _GaussianScores.apply(mean, log_std, values)  # type: ignore[no-untyped-call]  # torch's
    return found


def unsquash(squashed: Tensor) -> tuple[Tensor, Tensor]:
    """What tanh made numbers within [-1, 1] of, and the logarithm of its slope there.

    Numbers at the bounds count as the last ones before them, where tanh ends in this precision.

    Args:
        squashed: Results of tanh. `[...]`

    Returns:
        Its arguments `[...]` and the logarithms of its slopes `[...]`.
    """
    edge = largest_squashed(squashed.dtype)
    within = squashed.clamp(-edge, edge)
    above, below = torch.log1p(within), torch.log1p(-within)
    return 0.5 * (above - below), above + below


def largest_squashed(dtype: torch.dtype) -> float:
    """The last number before 1, which squashed numbers do not exceed."""
    return 1.0 - 0.5 * torch.finfo(dtype).eps


def mean_squashing_log_slope(mean: Tensor, log_std: Tensor) -> Tensor:
    """Mean over normal numbers of the logarithm of tanh's slope, log(1 - tanh(x)^2), estimated by quadrature.

    No sample is drawn. The estimate is off by at most 0.006 up to a standard deviation of 1, 0.1 up to 2 and 0.5 up
    to 4; like the mean itself it falls as the standard deviation grows. (The value at `mean` alone does not know the
    standard deviation: learners that are rewarded for entropy would crowd the bounds.)

    Args:
        mean: Means. `[B, n]`
        log_std: Logarithms of the standard deviations. `[n]` or `[B, n]`

    Returns:
        `[B, n]`

    Source: five points of Gauss-Hermite quadrature, Abramowitz & Stegun, Handbook of Mathematical Functions, 1964,
    25.4.46; the logarithm is 2 (log 2 + x - softplus(2 x)), which holds where tanh has come to its bounds as well.
    """
    found: Tensor = _MeanLogSlope.apply(mean, log_std)  # type: ignore[no-untyped-call]  # torch's
    return found


@dataclass(slots=True)
class CategoricalSlopes:
    """What the gradient of log-probabilities and entropies of choices takes; see `categorical_scores`."""

    _surprises: Tensor
    _minus_probs: Tensor
    _index: Tensor
    _dim: int

    @torch.no_grad()
    def gradients(self, by_log_prob: Tensor | None, by_entropy: Tensor | None) -> tuple[Tensor]:
        """By the logits, from those by the two. `[B]` each, None for zeros; to `[B, n]`"""
        if by_log_prob is None:
            by_log_prob = self._minus_probs.new_zeros(self._index.numel())
        chosen = by_log_prob.unsqueeze(self._dim)
        if by_entropy is None:
            found = chosen * self._minus_probs
        else:
            found = torch.addcmul(chosen, self._surprises, by_entropy.unsqueeze(self._dim)).mul_(self._minus_probs)
        found.scatter_add_(self._dim, self._index, chosen)
        return (found if self._dim else found.t(),)


@torch.no_grad()
def categorical_scores(logits: Tensor, choices: Tensor) -> tuple[Tensor, Tensor, CategoricalSlopes]:
    """What `categorical_log_prob_and_entropy` gives, for whoever goes back from there by themselves.

    Args:
        logits: Unnormalised log-probabilities of all choices. `[B, n]`
        choices: Which one was made, counted from 0. `[B]`

    Returns:
        Log-probability `[B]` and entropy in nats `[B]`, without a graph of gradients, and what those take.
    """
    dim = 0 if _lies_better_by_choice(logits) else 1
    log_probs = torch.log_softmax(logits if dim else logits.t(), dim)
    minus_probs = log_probs.exp().neg_()
    entropy = (minus_probs * log_probs).sum(dim, keepdim=True)
    index = choices.unsqueeze(dim)
    log_prob = log_probs.gather(dim, index).squeeze(dim)
    return log_prob, entropy.squeeze(dim), CategoricalSlopes(log_probs.add_(entropy), minus_probs, index, dim)


class _CategoricalScores(torch.autograd.Function):
    """`categorical_scores` for automatic differentiation."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, choices: Tensor) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        log_prob, entropy, ctx.slopes = categorical_scores(logits, choices)
        return log_prob, entropy

    @staticmethod
    def backward(ctx: Any, by_log_prob: Tensor | None, by_entropy: Tensor | None) -> tuple[Tensor, None]:
        _refuse_second_derivatives("categorical")
        return *ctx.slopes.gradients(by_log_prob, by_entropy), None


@dataclass(slots=True)
class GaussianSlopes:
    """What the gradient of log-densities and entropies of normal numbers takes; see `gaussian_scores`."""

    _precision: Tensor
    _deviations: Tensor

    @torch.no_grad()
    def gradients(self, by_log_prob: Tensor | None, by_entropy: Tensor | None) -> tuple[Tensor, Tensor]:
        """By the means and the logarithms of the standard deviations, from those by the two.

        Args:
            by_log_prob: By the log-density; None for zeros. `[B]`
            by_entropy: By the entropy; None for zeros. `[B]`

        Returns:
            `[B, n]`, and `[n]` or `[B, n]`, as the logarithms are.
        """
        if by_log_prob is None:
            by_log_prob = self._deviations.new_zeros(len(self._deviations))
        pulls = by_log_prob.unsqueeze(1) * self._deviations
        by_mean = pulls * self._precision
        by_log_std = pulls.mul_(self._deviations)
        constant = -by_log_prob if by_entropy is None else by_entropy - by_log_prob
        if self._precision.dim() == 1:
            return by_mean, by_log_std.sum(0).add_(constant.sum())
        return by_mean, by_log_std.add_(constant.unsqueeze(1))


@torch.no_grad()
def gaussian_scores(mean: Tensor, log_std: Tensor, values: Tensor) -> tuple[Tensor, Tensor, GaussianSlopes]:
    """What `gaussian_log_prob_and_entropy` gives, for whoever goes back from there by themselves.

    Args:
        mean: Means. `[B, n]`
        log_std: Logarithms of the standard deviations. `[n]` or `[B, n]`
        values: Where to take the density. `[B, n]`

    Returns:
        Log-density `[B]` and entropy in nats `[B]`, without a graph of gradients, and what those take.
    """
    n_parts = mean.shape[1]
    precision = torch.exp(-log_std)
    deviations = (values - mean) * precision
    spread = log_std.sum(-1)
    log_prob = torch.add(deviations.square().sum(1), spread, alpha=2.0).mul_(-0.5).sub_(n_parts * HALF_LOG_TWO_PI)
    entropy = (spread + n_parts * GAUSSIAN_ENTROPY).expand(len(mean))
    return log_prob, entropy, GaussianSlopes(precision, deviations)


class _GaussianScores(torch.autograd.Function):
    """`gaussian_scores` for automatic differentiation."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, log_std: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        log_prob, entropy, ctx.slopes = gaussian_scores(mean, log_std, values)
        return log_prob, entropy

    @staticmethod
    def backward(
        ctx: Any, by_log_prob: Tensor | None, by_entropy: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        _refuse_second_derivatives("gaussian")
        by_mean, by_log_std = ctx.slopes.gradients(by_log_prob, by_entropy)
        return by_mean, by_log_std, -by_mean if ctx.needs_input_grad[2] else None


class _MeanLogSlope(torch.autograd.Function):
    """Quadrature of 2 log 2 + 2 x - 4 (softplus(2 x) / 2), whose derivative is -2 tanh(x)."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, log_std: Tensor) -> Tensor:
        ctx.save_for_backward(mean, log_std)
        middle, below, above, far_below, far_above = F.softplus(_points(mean, torch.exp(log_std)), beta=2.0).unbind(0)
        total = (below + above).mul_(HERMITE_WEIGHTS[1]).add_(middle, alpha=HERMITE_WEIGHTS[0])
        total.add_(far_below, alpha=HERMITE_WEIGHTS[2]).add_(far_above, alpha=HERMITE_WEIGHTS[2])
        return torch.add(mean, total, alpha=-2.0).mul_(2.0).add_(2.0 * LOG_TWO)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = ctx.saved_tensors
        std = torch.exp(log_std)
        middle, below, above, far_below, far_above = torch.tanh(_points(mean, std)).unbind(0)
        by_mean = HERMITE_WEIGHTS[0] * middle + HERMITE_WEIGHTS[1] * (below + above)
        by_mean = torch.add(by_mean, far_below + far_above, alpha=HERMITE_WEIGHTS[2])
        by_std = HERMITE_NODES[0] * HERMITE_WEIGHTS[1] * (above - below)
        by_std = torch.add(by_std, far_above - far_below, alpha=HERMITE_NODES[1] * HERMITE_WEIGHTS[2])
        doubled = -2.0 * gradient
        return doubled * by_mean, (doubled * by_std * std).sum_to_size(log_std.shape)


def _points(mean: Tensor, std: Tensor) -> Tensor:
    """Where the quadrature looks. `[5, B, n]`"""
    near, far = (node * std for node in HERMITE_NODES)
    return torch.stack((mean, mean - near, mean + near, mean - far, mean + far))


def _lies_better_by_choice(logits: Tensor) -> bool:
    """Whether rows are shorter than the processor's vectors, which torch then leaves unused, and many enough."""
    return logits.shape[1] < VECTOR_WIDTH and logits.numel() >= MANY_LOGITS and logits.device.type == "cpu"


def _refuse_second_derivatives(kind: str) -> None:
    if torch.is_grad_enabled():
        raise InvalidInputError(
            f"{kind}_log_prob_and_entropy has first derivatives only, and create_graph=True asks for the second. Use "
            f"{kind}_log_prob and {kind}_entropy (`log_prob` and `entropy` of a distribution) instead."
        )
