"""What off-policy learners compute of transitions: targets, losses row by row, and noise, as functions of tensors.

E members of an ensemble value N transitions, once for each of V discount factors or horizons.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # torch's own convention

LEAST_VARIANCE = 1e-6


def bootstrapped_targets(
    rewards: Tensor, discounts: Tensor, next_values: Tensor, *, limits: tuple[float, float] | None = None
) -> Tensor:
    """What values should be: the reward and the discounted value of what follows.

    Args:
        rewards: `[N, V]` or `[N, 1]`
        discounts: 0 where nothing follows. `[N, V]` or `[N, 1]`
        next_values: One or more numbers A for each value: of its distribution, or of the value itself. `[N, V, A]`
        limits: Least and greatest target; None for any.

    Returns:
        `[N, V, A]`
    """
    targets = torch.addcmul(rewards.unsqueeze(-1), discounts.unsqueeze(-1), next_values)
    return targets if limits is None else targets.clamp(*limits)


def one_step_shorter(values: Tensor) -> Tensor:
    """Values of horizons 0 to H - 1 from those of 1 to H: nothing is earned in no steps.

    Args:
        values: `[N, H, A]`

    Returns:
        `[N, H, A]`

    Source: De Asis et al., Fixed-Horizon Temporal Difference Methods for Stable Reinforcement Learning, 2019
    (https://arxiv.org/abs/1909.03906), equation 4.
    """
    return F.pad(values[:, :-1], (0, 0, 1, 0))


def squared_value_losses(values: Tensor, targets: Tensor) -> Tensor:
    """Mean of the squared errors of all values, summed over the members; the mean is minimised.

    Args:
        values: `[E, N, V]`
        targets: `[N, V]`

    Returns:
        `[N]`
    """
    return summed_over_members(F.mse_loss(values, targets.expand_as(values), reduction="none"))


def summed_over_members(losses: Tensor) -> Tensor:
    """The mean over values, summed over members; means and sums of one number are left out.

    Args:
        losses: `[E, N, V]`

    Returns:
        `[N]`
    """
    of_members = losses.squeeze(-1) if losses.shape[-1] == 1 else losses.mean(-1)
    return of_members.squeeze(0) if len(of_members) == 1 else of_members.sum(0)


def gaussian_variance(raw: Tensor) -> Tensor:
    """A variance from a number of any sign; of the same shape."""
    return F.softplus(raw) + LEAST_VARIANCE


def gaussian_value_losses(means: Tensor, variances: Tensor, targets: Tensor, *, regularization: float = 0.0) -> Tensor:
    """Negative log-likelihood of targets, up to a constant, summed over the members; the mean is minimised.

    (y - m)^2 / (2 v) + log(v) / 2 + c log(v)^2: at v = 1 half the squared error.

    Args:
        means: `[E, N, V]`
        variances: Above 0. `[E, N, V]`
        targets: `[N, V]`
        regularization: What the squared logarithm of the variance costs, c.

    Returns:
        `[N]`

    Source: Lakshminarayanan, Pritzel & Blundell, Simple and Scalable Predictive Uncertainty Estimation using Deep
    Ensembles, 2017 (https://arxiv.org/abs/1612.01474), equation 1.
    """
    log_variances = variances.log()
    losses = 0.5 * ((targets - means).square() / variances + log_variances)
    if regularization:
        losses = losses + regularization * log_variances.square()
    return summed_over_members(losses)


def quantile_value_losses(quantiles: Tensor, targets: Tensor) -> Tensor:
    """Quantile Huber loss with a threshold of 1, averaged over quantiles and targets; the mean is minimised.

    Quantile i of Q stands for the share (2 i + 1) / (2 Q) of the distribution.

    Args:
        quantiles: `[E, N, V, Q]`
        targets: Numbers drawn from what the distribution should be. `[N, V, A]`

    Returns:
        Summed over the members. `[N]`

    Source: Dabney et al., Distributional Reinforcement Learning with Quantile Regression, 2017
    (https://arxiv.org/abs/1710.10044), equation 10; averaged over both as by Kuznetsov et al., 2020
    (https://arxiv.org/abs/2005.04269), equation 8.
    """
    n_quantiles = quantiles.shape[-1]
    shares = (torch.arange(n_quantiles, device=quantiles.device, dtype=quantiles.dtype) + 0.5) / n_quantiles
    errors = targets.unsqueeze(-2) - quantiles.unsqueeze(-1)  # [E, N, V, Q, A]
    sizes = errors.abs()
    huber = torch.where(sizes > 1.0, sizes - 0.5, 0.5 * errors.square())
    weights = (shares.unsqueeze(-1) - (errors.detach() < 0).to(errors.dtype)).abs()
    return (weights * huber).mean((-3, -2, -1)).sum(0)


def pooled_quantiles(quantiles: Tensor, n_dropped: int) -> Tensor:
    """The quantiles of all members as one sample, without its greatest.

    Args:
        quantiles: `[E, N, V, Q]`
        n_dropped: How many are left out for each member.

    Returns:
        In rising order, if some are left out. `[N, V, E (Q - n_dropped)]`

    Source: Kuznetsov et al., Controlling Overestimation Bias with Truncated Mixture of Continuous Distributional
    Quantile Critics, 2020 (https://arxiv.org/abs/2005.04269), section 4.
    """
    n_members = len(quantiles)
    pooled = quantiles.movedim(0, -2).flatten(-2)
    return pooled if n_dropped == 0 else pooled.sort(-1).values[..., : pooled.shape[-1] - n_dropped * n_members]


def random_simplex_point(n: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Weights that are positive and sum to 1, all such weights being equally likely. `[n]`

    Source: Dirichlet(1, ..., 1), as exponential numbers divided by their sum.
    """
    numbers = torch.empty(n, device=device).exponential_(generator=generator)
    return numbers / numbers.sum()


def smoothed_actions(actions: Tensor, *, std: float, clip: float, generator: torch.Generator) -> Tensor:
    """Actions in [-1, 1] with clipped normal noise.

    Args:
        actions: `[N, A]`
        std: Of the noise before it is clipped.
        clip: Greatest magnitude of the noise.
        generator: What is drawn comes from here.

    Returns:
        `[N, A]`

    Source: Fujimoto, van Hoof & Meger, Addressing Function Approximation Error in Actor-Critic Methods, 2018
    (https://arxiv.org/abs/1802.09477), equation 14.
    """
    noise = actions.new_empty(actions.shape).normal_(0.0, std, generator=generator).clamp_(-clip, clip)
    return (actions + noise).clamp(-1.0, 1.0)


def soft_maximum_gaps(candidates: Tensor, log_densities: Tensor, values: Tensor) -> Tensor:
    """How far the soft maximum over all actions is above the value of the action that is in the data.

    Estimated from actions that were drawn, up to a constant: log sum exp(Q(a) - log density(a)) - Q(data).

    Args:
        candidates: Values of drawn actions. `[E, N, C, V]`
        log_densities: Of the drawn actions under what they were drawn from. `[N, C]`
        values: Values of the actions in the data. `[E, N, V]`

    Returns:
        Averaged over values, summed over members. `[N]`

    Source: Kumar et al., Conservative Q-Learning for Offline Reinforcement Learning, 2020
    (https://arxiv.org/abs/2006.04779), equation 4 and appendix F.
    """
    soft = torch.logsumexp(candidates - log_densities.unsqueeze(-1), dim=2)
    return (soft - values).mean(-1).sum(0)


def range_gaps(unseen: Tensor, values: Tensor, *, limits: tuple[float, float]) -> Tensor:
    """How far unseen actions are from the least value there is, and those in the data from the greatest.

    Args:
        unseen: Values of actions that are drawn at random. `[E, M, V]`
        values: Values of the actions in the data. `[E, N, V]`
        limits: The least and the greatest value.

    Returns:
        One number: |mean(unseen) - least| + |mean(values) - greatest|. `[]`

    Source: the conservative soft actor-critic of mrl.
    """
    low, high = limits
    return (unseen.mean() - low).abs() + (values.mean() - high).abs()
