"""What on-policy learners optimise, row by row, as functions of tensors."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # torch's own convention

from rl_framework.errors import InvalidInputError, UnknownOptionError

ValueErrorKind = Literal["squared", "huber"]


def clipped_surrogate(
    log_prob: Tensor,
    old_log_prob: Tensor,
    advantages: Tensor,
    *,
    clip_range: float | Tensor,
    dual_clip: float | None = None,
) -> Tensor:
    """PPO's objective; the mean is maximised.

    With r the ratio of the policies and A the advantage it is min(r A, clip(r) A). For either sign of A that is r A
    held under A + clip_range |A|, which is how it is computed: less work, and the same gradient.

    Args:
        log_prob: Log-probability of each action under the policy that is learned. `[N]`
        old_log_prob: Log-probability of each action under the policy that acted. `[N]`
        advantages: How much better than expected each action did. `[N]`
        clip_range: How far the ratio may leave 1 for the better; a number, or a tensor with one.
        dual_clip: Highest ratio, above 1, that counts against an action that did worse: the objective is at least
            dual_clip A where A is negative. None for no such bound.

    Returns:
        `[N]`

    Raises:
        InvalidInputError: `dual_clip` is not above 1.

    Source: Schulman et al., Proximal Policy Optimization Algorithms, 2017, equation 7; the second clip: Ye et al.,
    Mastering Complex Control in MOBA Games with Deep Reinforcement Learning, 2020, equation 5.
    """
    bounds = _objective_bounds(advantages, clip_range, dual_clip)
    return torch.clamp((log_prob - old_log_prob).exp() * advantages, *bounds)


@torch.no_grad()
def clipped_surrogate_and_slope(
    log_prob: Tensor,
    old_log_prob: Tensor,
    advantages: Tensor,
    *,
    clip_range: float | Tensor,
    dual_clip: float | None = None,
) -> tuple[Tensor, Tensor]:
    """`clipped_surrogate`, which see, and its derivative by `log_prob`: r A where r is not clipped, 0 where it is.

    Both without a graph of gradients: for whoever goes back from there by themselves, which takes half of the time.

    Returns:
        `[N]` each.
    """
    bounds = _objective_bounds(advantages, clip_range, dual_clip)
    unclipped = (log_prob - old_log_prob).exp_().mul_(advantages)
    objective = torch.clamp(unclipped, *bounds)
    return objective, unclipped.masked_fill_(objective != unclipped, 0.0)


def value_errors(
    values: Tensor,
    returns: Tensor,
    *,
    kind: ValueErrorKind = "squared",
    old_values: Tensor | None = None,
    clip_range: float | Tensor | None = None,
    cap: float | None = None,
) -> Tensor:
    """How far values are from what they should be; the mean is minimised.

    Args:
        values: What the value function says now. `[N]`
        returns: What it should say. `[N]`
        kind: "squared" for (values - returns)^2, without a factor of one half; "huber" for half of that up to a
            distance of 1, and the distance less one half from there on.
        old_values: What the value function said when the data were gathered. `[N]`
        clip_range: With `old_values`: moving further than this from them does not lower the error. None for no such
            bound.
        cap: Highest error of a row; rows above it teach nothing. None for no cap.

    Returns:
        `[N]`

    Raises:
        UnknownOptionError: There is no such kind.
        InvalidInputError: One of `old_values` and `clip_range` is given without the other.

    Source: "huber" and `cap` as in the PPO of rl8; `clip_range` as in the PPO2 of OpenAI Baselines.
    """
    errors = _errors(values, returns, kind)
    nearby = _nearby(values, old_values, clip_range)
    if nearby is not None:
        errors = torch.maximum(errors, _errors(nearby, returns, kind))
    return errors if cap is None else errors.clamp(max=cap)


@torch.no_grad()
def value_errors_and_slopes(
    values: Tensor,
    returns: Tensor,
    *,
    kind: ValueErrorKind = "squared",
    old_values: Tensor | None = None,
    clip_range: float | Tensor | None = None,
    cap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """`value_errors`, which see, and their derivatives by `values`, both without a graph of gradients.

    Where a value and the nearest one within the clip range are equally wrong, the derivative is that of the value.

    Returns:
        `[N]` each.
    """
    errors, slopes = _errors(values, returns, kind), values - returns
    slopes = slopes.add_(slopes) if kind == "squared" else slopes.clamp_(-1.0, 1.0)
    nearby = _nearby(values, old_values, clip_range)
    if nearby is not None:
        least = _errors(nearby, returns, kind)
        slopes.masked_fill_(errors < least, 0.0)
        errors = torch.maximum(errors, least)
    if cap is not None:
        slopes.masked_fill_(errors > cap, 0.0)
        errors = errors.clamp(max=cap)
    return errors, slopes


def approximate_kl(log_prob: Tensor, old_log_prob: Tensor) -> Tensor:
    """An estimate, never negative, of the divergence of the policy that is learned from the one that acted.

    Args:
        log_prob: Log-probability of each action under the policy that is learned. `[N]`
        old_log_prob: Log-probability of each action under the policy that acted. `[N]`

    Returns:
        Its mean over actions of the old policy is KL(old, new). `[N]`

    Source: Schulman, Approximating KL Divergence, 2020, estimator k3: (r - 1) - log r.
    """
    log_ratio = log_prob - old_log_prob
    return torch.expm1(log_ratio) - log_ratio


def _errors(values: Tensor, returns: Tensor, kind: str) -> Tensor:
    if kind == "squared":
        return F.mse_loss(values, returns, reduction="none")
    if kind == "huber":
        return F.smooth_l1_loss(values, returns, reduction="none")
    raise UnknownOptionError.of("kind of value error", kind, ("squared", "huber"))


def _objective_bounds(
    advantages: Tensor, clip_range: float | Tensor, dual_clip: float | None
) -> tuple[Tensor | None, Tensor]:
    """What PPO's objective is held within, from below and from above. `[N]`"""
    if dual_clip is not None and not dual_clip > 1.0:
        raise InvalidInputError(f"dual_clip bounds a ratio from above and must be above 1, or None, got {dual_clip}.")
    with torch.no_grad():
        highest = advantages.abs().mul_(clip_range).add_(advantages)
        lowest = None if dual_clip is None else advantages.clamp(max=0.0).mul_(dual_clip)
    return lowest, highest


def _nearby(values: Tensor, old_values: Tensor | None, clip_range: float | Tensor | None) -> Tensor | None:
    """Values, no further from the old ones than the clip range; None where there is no such bound. `[N]`"""
    if (old_values is None) is not (clip_range is None):
        raise InvalidInputError("old_values and clip_range belong together: give both, or neither.")
    if old_values is None or clip_range is None:
        return None
    return values.clamp(old_values - clip_range, old_values + clip_range)
