"""What PPO minimises: its derivatives by what the model says, and the numbers that describe it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rl_framework.algorithms.ppo_config import PPOConfig
from rl_framework.data.rollout import Rollout
from rl_framework.errors import InvalidInputError
from rl_framework.functional.policy_losses import clipped_surrogate_and_slope, value_errors_and_slopes
from rl_framework.rollouts.scoring import Scores

EPSILON = 1e-8
STATISTICS = ("objective", "value_loss", "entropy", "approximate_kl", "clip_fraction")
"""What is added up over all rows of an update."""


@dataclass(frozen=True, slots=True)
class LossWeights:
    """What a row is worth in each term of the loss in one update, `[]` each; a graph can be given them anew.

    Attributes:
        clip_range: How far the ratio of probabilities may pay off.
        objective: Of the clipped objective.
        value: Of the error of the value.
        entropy: Of the entropy; None if that is of no interest.
    """

    clip_range: Tensor
    objective: Tensor
    value: Tensor
    entropy: Tensor | None


@dataclass(frozen=True, slots=True)
class LossSlopes:
    """Derivatives of the loss by what the model says of each row. `[L, N]`

    Attributes:
        log_prob: By the log-probability of its action.
        entropy: By the entropy of its distribution; None if that is of no interest.
        values: By its value.
    """

    log_prob: Tensor
    entropy: Tensor | None
    values: Tensor


@torch.no_grad()
def loss_slopes(
    config: PPOConfig,
    batch: Rollout,
    scores: Scores,
    weights: LossWeights,
    standard: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, LossSlopes]:
    """What the loss of a batch is made of, and its derivatives by what the model said.

    The loss is the sum over rows of what each weighs in its terms, to be minimised. That the way back begins here and
    not at the loss saves a fifth of an update of small networks.

    Args:
        config: Which loss.
        batch: With the extras `advantages` and `returns`. `[L, N]`
        scores: What the model says of the batch. `[L, N]`
        weights: Of the terms.
        standard: Mean and standard deviation by which advantages are normalised; None to take them as they are.

    Returns:
        Sums over rows of the numbers named in `STATISTICS`, `[5]`, and the derivatives.

    Raises:
        InvalidInputError: The model gives no values.
    """
    old_log_prob, advantages = required(batch.log_prob), batch.extras["advantages"]
    objective, by_log_prob = clipped_surrogate_and_slope(
        scores.log_prob,
        old_log_prob,
        advantages if standard is None else normalized(advantages, standard),
        clip_range=weights.clip_range,
        dual_clip=config.dual_clip,
    )
    errors, by_values = value_errors_and_slopes(
        required(scores.values),
        batch.extras["returns"],
        kind=config.value_loss,  # type: ignore[arg-type]  # one of the known ones
        old_values=None if config.clip_range_value is None else batch.values,
        clip_range=config.clip_range_value,
        cap=config.value_loss_cap,
    )
    log_ratio = scores.log_prob - old_log_prob
    ratio_error = log_ratio.expm1()
    divergence = ratio_error - log_ratio
    is_clipped = ratio_error.abs_().gt_(weights.clip_range)
    sums = torch.stack([objective, errors, scores.entropy, divergence, is_clipped]).flatten(1).sum(1)
    by_entropy = None if weights.entropy is None else weights.entropy.expand_as(scores.entropy)
    return sums, LossSlopes(by_log_prob.mul_(weights.objective), by_entropy, by_values.mul_(weights.value))


def normalized(advantages: Tensor, standard: tuple[Tensor, Tensor]) -> Tensor:
    """Brought to mean 0 and standard deviation 1."""
    return (advantages - standard[0]).div_(standard[1])


def standard_of(advantages: Tensor) -> tuple[Tensor, Tensor] | None:
    """Mean and standard deviation by which advantages are normalised; None for a single one, which stays as it is."""
    if advantages.numel() < 2:
        return None
    std, mean = torch.std_mean(advantages)
    return mean, std + EPSILON


def explained_variance(values: Tensor, returns: Tensor) -> Tensor:
    """Share of the returns' variance that the values foretold; 0 where returns do not vary. One number"""
    variance = returns.var()
    return torch.where(variance > 0, 1.0 - (returns - values).var() / variance.clamp(min=EPSILON), 0.0)


def required(values: Tensor | None) -> Tensor:
    """Values, or log-probabilities, that are there.

    Raises:
        InvalidInputError: They are not.
    """
    if values is None:
        raise InvalidInputError("PPO needs a model with values: set `value` in the ModelOutput of its step.")
    return values
