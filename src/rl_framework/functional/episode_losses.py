"""What the episode trainer minimises, and the numbers that weigh it, as functions of tensors.

Nothing here writes into its arguments: log-likelihoods that were recorded stay as they were recorded.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rl_framework.functional.policy_losses import approximate_kl

CLONING_TEMPERATURE = 1000.0
"""From this temperature on, all actions weigh the same."""
STEEP = 3.0
"""Logarithm of the ratio of probabilities from which the sampled divergence goes on along its tangent."""
LARGEST_VIOLATION = 1.0
FEWEST_DIGITS = 1e-6
"""Deviations below this share of the numbers' size are rounding errors."""


def moments(numbers: Tensor) -> Tensor:
    """Count, sum and sum of squares, float64, which add up over processes. `[N]` to `[3]`"""
    exact = numbers.detach().double()
    return torch.stack([torch.full_like(exact.sum(), exact.numel()), exact.sum(), exact.square().sum()])


def mean_and_deviation(totals: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation from `moments`; a deviation within rounding errors is 0. `[3]` to `[]` each"""
    count, total, squares = totals.unbind(0)
    mean = total / count.clamp(min=1.0)
    size = (squares / count.clamp(min=1.0)).sqrt()
    deviation = (size.square() - mean.square()).clamp(min=0.0).sqrt()
    return mean, torch.where(deviation > FEWEST_DIGITS * size, deviation, 0.0)


def standardized(numbers: Tensor, mean: Tensor, deviation: Tensor, *, least: float = 1e-4) -> Tensor:
    """Numbers of mean 0 and standard deviation 1; zeros where all of them are equal.

    Args:
        numbers: `[N]`
        mean: Theirs, or that of the larger population which they are part of. `[]`
        deviation: Likewise. `[]`
        least: Deviations are taken to be at least this: differences far below the size of a reward are noise.

    Returns:
        `[N]`
    """
    centred = (numbers - mean.to(numbers.dtype)) / deviation.clamp(min=least).to(numbers.dtype)
    return torch.where(deviation > 0.0, centred, torch.zeros_like(centred))


def relative_weights(advantages: Tensor, highest: float, *, temperature: float, clip: float) -> Tensor:
    """Weights of advantage-weighted regression, as shares of the weight of the highest advantage, in [0, 1].

    That is exp(min(A / temperature, clip)) up to a factor, and it neither overflows nor vanishes altogether, however
    large advantages are.

    Args:
        advantages: A. `[N]`
        highest: The highest advantage of the population that is weighed together.
        temperature: See `advantage_weights`.
        clip: See `advantage_weights`.

    Returns:
        `[N]`
    """
    if temperature >= CLONING_TEMPERATURE:
        return torch.ones_like(advantages)
    exponents = (advantages / temperature).clamp(max=clip)
    return (exponents - min(highest / temperature, clip)).exp()


def advantage_weights(advantages: Tensor, *, temperature: float, clip: float = 8.0) -> Tensor:
    """How much each action counts in advantage-weighted regression: exp(A / temperature), of mean 1.

    Args:
        advantages: How much better than expected each action did, in standard deviations, A. `[N]`
        temperature: Advantage over which the weight grows e-fold; from 1000 on all weigh the same.
        clip: Highest exponent.

    Returns:
        At least 0. `[N]`

    Source: Peng et al., Advantage-Weighted Regression, 2019 (https://arxiv.org/abs/1910.00177), algorithm 1; that
    weights are normalised over the batch is as in Song et al., V-MPO, 2019 (https://arxiv.org/abs/1909.12238).
    """
    highest = advantages.max().item() if len(advantages) else 0.0
    weights = relative_weights(advantages, highest, temperature=temperature, clip=clip)
    return weights / weights.mean()


def weighted_log_likelihood(log_prob: Tensor, weights: Tensor) -> Tensor:
    """Loss of advantage-weighted regression, row by row: minus the weighted log-likelihood. `[N]`

    Args:
        log_prob: Of each recorded action under the policy that is learned. `[N]`
        weights: Without gradient. `[N]`
    """
    return -weights * log_prob


def sampled_kl(log_prob: Tensor, old_log_prob: Tensor) -> Tensor:
    """Divergence from an older policy, estimated from the recorded actions alone; never negative, 0 where they agree.

    It is `approximate_kl` up to a ratio of e^3, and its tangent beyond: finite, with a gradient that always leads back.

    Args:
        log_prob: Of each recorded action under the policy that is learned. `[N]`
        old_log_prob: Likewise under the older one. `[N]`

    Returns:
        `[N]`
    """
    log_ratio = log_prob - old_log_prob.detach()
    near = log_ratio.clamp(max=STEEP)
    return approximate_kl(near, torch.zeros_like(near)) + math.expm1(STEEP) * (log_ratio - near)


def entropy_target(initial_entropy: Tensor, share: float) -> Tensor:
    """The entropy at which a share of the first is left. `[]`

    Of a positive entropy that is the product. Densities may have negative ones: then it is that of distributions
    which are narrower by the factor `share`.

    Args:
        initial_entropy: Mean entropy at first, in nats. `[]`
        share: Above 0.
    """
    return torch.where(initial_entropy >= 0.0, initial_entropy * share, initial_entropy + math.log(share))


def entropy_slope(mean_entropy: Tensor, target: Tensor) -> Tensor:
    """Derivative of the entropy loss, (mean entropy - target)^2, by the mean entropy. `[]`

    The distance of the mean counts, not that of each step: some may be far more certain than others. Times the mean of
    entropies with gradient it has the loss's gradient, also where each process knows only a part of the mean.
    """
    return 2.0 * (mean_entropy - target).detach()


def next_kl_coefficient(
    coefficient: Tensor, divergence: Tensor, *, target: float, rate: float, low: float, high: float
) -> Tensor:
    """The weight of the divergence after it was seen to be above or below its target. `[]`

    Its logarithm changes in proportion to the logarithm of divergence over target, for up to an e-fold violation.

    Args:
        coefficient: The weight now. `[]`
        divergence: Mean per step; infinite or NaN counts as far above. `[]`
        target: What is aimed at.
        rate: Change of the logarithm for an e-fold violation.
        low: The least weight.
        high: The greatest weight.
    """
    violation = (divergence.detach() / target).log().nan_to_num(nan=LARGEST_VIOLATION)
    steps = violation.clamp(-LARGEST_VIOLATION, LARGEST_VIOLATION)
    return (coefficient * (rate * steps).exp()).nan_to_num(nan=high).clamp(low, high)
