"""Logarithms of probabilities and densities, and entropies, as functions of a distribution's parameters.

The last axis holds the parts of one value, which are independent of each other; results have one number per row.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # torch's own convention

HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


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
    return -(0.5 * deviations.square() + log_std + HALF_LOG_TWO_PI).sum(1)


def gaussian_entropy(log_std: Tensor) -> Tensor:
    """Differential entropy of independent normal numbers, in nats. `[..., n]` to `[...]`."""
    return (log_std + (0.5 + HALF_LOG_TWO_PI)).sum(-1)
