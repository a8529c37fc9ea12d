"""What a step was worth: returns, advantages and value targets, as functions of a block of time steps.

All tensors are `[T, ...]`, time first; the further axes are rows that know nothing of each other. Two ends are told
apart. A step that is `terminated` ended the task: nothing follows, and its entry of `next_values` is not even read,
so it may be NaN. After a step that is `truncated`, and after the last one of the block, the task would have gone on:
`next_values` stands for what would have followed. No sum reaches beyond an end of either kind.

`next_values` hold the value of what followed each step: of the next step's observation where the episode goes on, of
the true last observation where it was truncated.

Nothing here writes into its arguments. Everything is differentiable; targets that are to be constants are computed
under `torch.no_grad()`, or from tensors without gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rl_framework.errors import InvalidInputError

# Rows that are cheaper to visit one by one than to halve once more.
FEW = 8


def backward_scan(x: Tensor, decay: Tensor) -> Tensor:
    """Decaying sums from behind: `y[t] = x[t] + decay[t] * y[t + 1]`, with nothing behind the last step.

    About 3 log2(T) operations on tensors instead of T, of 3 T numbers in all. Only products of neighbouring decays
    are formed and nothing is divided, so decays of 0 cut exactly, and decays of up to 1 lose no digits.

    Args:
        x: What each step adds. `[T, ...]`
        decay: How much of the next step's sum reaches each step; the last one's is not read. `[T, ...]`

    Returns:
        `[T, ...]`

    Raises:
        InvalidInputError: The shapes differ, or there are no steps.

    Source: odd-even reduction, as in Blelloch, Prefix Sums and Their Applications, 1990, section 1.4.
    """
    _check_shapes(x=x, decay=decay)
    scanned: Tensor = _BackwardScan.apply(x, decay)  # type: ignore[no-untyped-call]  # torch leaves it without types
    return scanned


def discounted_returns(
    rewards: Tensor, terminated: Tensor, truncated: Tensor, *, gamma: float, next_values: Tensor | None = None
) -> Tensor:
    """Rewards to go: what each step and all later ones of its episode brought, discounted.

    Args:
        rewards: `[T, ...]`
        terminated: Whether the task ended with the step, bool. `[T, ...]`
        truncated: Whether the episode was cut after the step, bool. `[T, ...]`
        gamma: Discount of one step.
        next_values: Value of what followed each step, read at truncations and at the last step; None where what
            would have followed counts as nothing. `[T, ...]`

    Returns:
        `[T, ...]`

    Raises:
        InvalidInputError: Shapes or types do not fit.
    """
    beyond = torch.zeros_like(rewards) if next_values is None else next_values
    return td_lambda_targets(rewards, beyond, terminated, truncated, gamma=gamma, td_lambda=1.0)


def generalized_advantages(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    *,
    gamma: float,
    gae_lambda: float,
) -> Tensor:
    """How much better each step went than its value foretold (GAE).

    Args:
        rewards: `[T, ...]`
        values: Value of the observation before each step. `[T, ...]`
        next_values: Value of what followed each step. `[T, ...]`
        terminated: Whether the task ended with the step, bool. `[T, ...]`
        truncated: Whether the episode was cut after the step, bool. `[T, ...]`
        gamma: Discount of one step.
        gae_lambda: From 0, one step and then the value, to 1, all rewards up to the end.

    Returns:
        `[T, ...]`

    Raises:
        InvalidInputError: Shapes or types do not fit.

    Source: Schulman et al., High-Dimensional Continuous Control Using Generalized Advantage Estimation, 2016,
    equation 16, with time limits after Pardo et al., Time Limits in Reinforcement Learning, 2018.
    """
    _check_steps(rewards, terminated, truncated, values=values, next_values=next_values)
    errors = _one_step_targets(rewards, next_values, terminated, gamma).sub_(values)
    return backward_scan(errors, _while_running(errors, terminated, truncated, gamma * gae_lambda))


def td_lambda_targets(
    rewards: Tensor, next_values: Tensor, terminated: Tensor, truncated: Tensor, *, gamma: float, td_lambda: float
) -> Tensor:
    """Value targets that mix the bootstrapped returns of all lengths, the longer ones with weights falling by lambda.

    Args:
        rewards: `[T, ...]`
        next_values: Value of what followed each step. `[T, ...]`
        terminated: Whether the task ended with the step, bool. `[T, ...]`
        truncated: Whether the episode was cut after the step, bool. `[T, ...]`
        gamma: Discount of one step.
        td_lambda: From 0, one step and then the value, to 1, all rewards up to the end.

    Returns:
        `[T, ...]`

    Raises:
        InvalidInputError: Shapes or types do not fit.

    Source: Sutton & Barto, Reinforcement Learning, 2nd edition, equations 12.2 and 12.3, in the recursive form
    `G[t] = r[t] + gamma * ((1 - lambda) * V[t + 1] + lambda * G[t + 1])`.
    """
    _check_steps(rewards, terminated, truncated, next_values=next_values)
    return backward_scan(
        *_lambda_mixture(rewards, next_values, terminated, truncated, gamma=gamma, td_lambda=td_lambda)
    )


def n_step_returns(
    rewards: Tensor, next_values: Tensor, terminated: Tensor, truncated: Tensor, *, gamma: float, n_steps: int
) -> Tensor:
    """Value targets of n rewards and then the value; of fewer where the episode or the block ends before.

    Steps are composed by doubling: log2(n) rounds, whatever T is.

    Args:
        rewards: `[T, ...]`
        next_values: Value of what followed each step. `[T, ...]`
        terminated: Whether the task ended with the step, bool. `[T, ...]`
        truncated: Whether the episode was cut after the step, bool. `[T, ...]`
        gamma: Discount of one step.
        n_steps: How many rewards come before the value, at least 1.

    Returns:
        `[T, ...]`

    Raises:
        InvalidInputError: Shapes or types do not fit, or `n_steps` is below 1.

    Source: Sutton & Barto, Reinforcement Learning, 2nd edition, equation 7.1.
    """
    _check_steps(rewards, terminated, truncated, next_values=next_values)
    if n_steps < 1:
        raise InvalidInputError(f"n_steps must be at least 1, the one-step target, got {n_steps}.")
    targets = _one_step_targets(rewards, next_values, terminated, gamma)
    gains, decay = _lambda_mixture(rewards, next_values, terminated, truncated, gamma=gamma, td_lambda=1.0)
    reach, missing = 1, min(n_steps, len(rewards)) - 1
    while missing:
        if missing % 2:
            targets = _preceded(targets, gains, decay, reach)
        missing //= 2
        if missing:
            gains = _preceded(gains, gains, decay, reach)
            decay = _preceded(decay, torch.zeros_like(decay), decay, reach)
            reach *= 2
    return targets


@dataclass(frozen=True, slots=True)
class VTrace:
    """What off-policy steps say about the policy that is learned.

    Attributes:
        values: What its value function should be before each step, `vs` in the paper. `[T, ...]`
        advantages: Weights of its policy gradient, the clipped ratio included. `[T, ...]`
    """

    values: Tensor
    advantages: Tensor


def vtrace(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    *,
    log_prob: Tensor,
    behaviour_log_prob: Tensor,
    gamma: float,
    rho_bar: float = 1.0,
    c_bar: float = 1.0,
    trace_lambda: float = 1.0,
) -> VTrace:
    """Value targets and advantages for a policy from the steps of another one.

    Args:
        rewards: `[T, ...]`
        values: Value of the observation before each step. `[T, ...]`
        next_values: Value of what followed each step. `[T, ...]`
        terminated: Whether the task ended with the step, bool. `[T, ...]`
        truncated: Whether the episode was cut after the step, bool. `[T, ...]`
        log_prob: Log-probability of each action under the policy that is learned. `[T, ...]`
        behaviour_log_prob: Log-probability of each action under the policy that acted. `[T, ...]`
        gamma: Discount of one step.
        rho_bar: Highest ratio in what a step teaches: what is learned is the value of a policy between the two.
        c_bar: Highest ratio in how far later steps reach back: how quickly it is learned.
        trace_lambda: Further factor of that reach, as lambda of TD(lambda).

    Returns:
        Targets and advantages; with equal policies the targets are those of TD(lambda).

    Raises:
        InvalidInputError: Shapes or types do not fit.

    Source: Espeholt et al., IMPALA, 2018, section 4.1 with remark 2, and section 4.2.
    """
    ratio_terms = {"log_prob": log_prob, "behaviour_log_prob": behaviour_log_prob}
    _check_steps(rewards, terminated, truncated, values=values, next_values=next_values, **ratio_terms)
    ratios = (log_prob - behaviour_log_prob).exp()
    rho, ended = ratios.clamp(max=rho_bar), terminated | truncated
    errors = rho * _one_step_targets(rewards, next_values, terminated, gamma).sub_(values)
    reach = (ratios.clamp(max=c_bar) * (gamma * trace_lambda)).masked_fill(ended, 0.0)
    targets = values + backward_scan(errors, reach)
    following = torch.cat([torch.where(ended[:-1], next_values[:-1], targets[1:]), next_values[-1:]])
    advantages = rho * _one_step_targets(rewards, following, terminated, gamma).sub_(values)
    return VTrace(values=targets, advantages=advantages)


class _BackwardScan(torch.autograd.Function):
    """The scan with its derivative, which is a scan the other way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, decay: Tensor) -> Tensor:
        sums = x.clone(memory_format=torch.contiguous_format)
        _scan_in_place(sums, decay)
        ctx.save_for_backward(decay, sums)
        return sums

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None]:
        decay, sums = ctx.saved_tensors
        of_x = backward_scan(gradients[0].flip(0), decay.flip(0).roll(-1, 0)).flip(0)
        if not ctx.needs_input_grad[1]:
            return of_x, None
        return of_x, torch.cat([of_x[:-1] * sums[1:], torch.zeros_like(sums[:1])])


def _scan_in_place(rows: Tensor, decay: Tensor) -> None:
    """Add to each row what reaches it from behind.

    Even rows take in the odd row behind them and then need only each other, with the products of neighbouring decays:
    the same task, half as long. Odd rows follow from the even rows behind them.
    """
    if len(rows) <= FEW:
        _scan_few_in_place(rows, decay)
        return
    even, odd = rows[0::2], rows[1::2]
    n_odd, n_between = len(odd), len(even) - 1
    even[:n_odd].addcmul_(decay[: 2 * n_odd : 2], odd)
    before_even = decay[1 : 2 * n_between : 2]
    _scan_in_place(even, decay[: 2 * n_between : 2] * before_even)
    odd[:n_between].addcmul_(before_even, even[1:])


def _scan_few_in_place(rows: Tensor, decay: Tensor) -> None:
    sums, decays = rows.unbind(0), decay.unbind(0)
    for step in reversed(range(len(sums) - 1)):
        sums[step].addcmul_(decays[step], sums[step + 1])


def _one_step_targets(rewards: Tensor, next_values: Tensor, terminated: Tensor, gamma: float) -> Tensor:
    return torch.add(rewards, next_values.masked_fill(terminated, 0.0), alpha=gamma)


def _while_running(like: Tensor, terminated: Tensor, truncated: Tensor, decay: float) -> Tensor:
    """The decay where the episode goes on after the step, 0 where it ended."""
    return torch.full_like(like, decay, requires_grad=False).masked_fill_(terminated | truncated, 0.0)


def _lambda_mixture(
    rewards: Tensor, next_values: Tensor, terminated: Tensor, truncated: Tensor, *, gamma: float, td_lambda: float
) -> tuple[Tensor, Tensor]:
    """Gains and decays of TD(lambda): a step's target is its gain, and its decay times the next step's target."""
    share = _while_running(rewards, terminated, truncated, td_lambda)
    share[-1].zero_()
    gains = torch.addcmul(rewards, next_values.masked_fill(terminated, 0.0), 1.0 - share, value=gamma)
    return gains, share * gamma


def _preceded(targets: Tensor, gains: Tensor, decay: Tensor, reach: int) -> Tensor:
    """Targets with `reach` steps put before them, whose gains and decays are given as those of one."""
    return torch.cat([torch.addcmul(gains[:-reach], decay[:-reach], targets[reach:]), gains[-reach:]])


def _check_steps(rewards: Tensor, terminated: Tensor, truncated: Tensor, **others: Tensor) -> None:
    _check_shapes(rewards=rewards, terminated=terminated, truncated=truncated, **others)
    for name, flags in (("terminated", terminated), ("truncated", truncated)):
        if flags.dtype is not torch.bool:
            raise InvalidInputError(f"{name} must be a tensor of bool, got {flags.dtype}. Convert it with `.bool()`.")


def _check_shapes(**tensors: Tensor) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    name, first = next(iter(tensors.items()))
    if any(shape != first.shape for shape in shapes.values()):
        raise InvalidInputError(f"Expected tensors of one shape [T, ...], time first, got {shapes}.")
    if first.dim() == 0 or len(first) == 0:
        raise InvalidInputError(f"Expected at least one time step in {name}, got the shape {shapes[name]}.")
    if not first.is_floating_point():
        raise InvalidInputError(f"{name} must be a tensor of floats, got {first.dtype}. Convert it with `.float()`.")
