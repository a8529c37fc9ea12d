"""Episodes of unequal length as one stream of steps, without padding, and what their steps were worth.

E pieces of T_1 to T_E steps lie one behind the other: N steps. Whatever belongs to observations lies likewise, but with
T + 1 rows per piece, the one after the last step included: S = N + E rows. A piece is an episode, or a part of one that
is followed by the next part; the scans of `returns` cut where an episode ends and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rl_framework.errors import InvalidInputError
from rl_framework.functional.returns import VTrace, vtrace

GOES_ON, TERMINATED, TRUNCATED = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedSteps:
    """Where the steps that count lie, and which of them end an episode: M of N steps.

    Attributes:
        steps: Which steps count, in order. `[M]`
        before: Row of the observation before each of them. `[M]`
        after: Row of the observation after each of them, which is the one before the next that counts, if the episode
            has one. `[M]`
        terminated: Whether the task ended with it. `[M]`
        truncated: Whether the episode was cut after it. `[M]`
        groups: For each of the N steps the step, numbered among those that count, that earns its reward: itself or
            the latest one before; M where there is none. None where all steps count. `[N]`
    """

    steps: Tensor
    before: Tensor
    after: Tensor
    terminated: Tensor
    truncated: Tensor
    groups: Tensor | None

    def __len__(self) -> int:
        """Number of steps that count, M."""
        return len(self.steps)

    def earned(self, rewards: Tensor) -> Tensor:
        """Rewards of the steps that count, with those of the steps behind them that do not. `[N]` to `[M]`"""
        if self.groups is None:
            return rewards
        return rewards.new_zeros(len(self) + 1).index_add_(0, self.groups, rewards)[:-1]


def pack_steps(
    lengths: Sequence[int], ends: Sequence[int], valid: Tensor | None = None, *, device: torch.device | None = None
) -> PackedSteps:
    """Find out where the steps of packed pieces lie.

    Args:
        lengths: Number of steps of each piece. `[E]`
        ends: How each of them ends: `GOES_ON` where the next piece continues its episode, `TERMINATED` or `TRUNCATED`.
            `[E]`
        valid: Which steps count: the episodes are treated as if they consisted of these alone, each followed by the
            next. All if None. `[N]`
        device: Where the result is to be.

    Raises:
        InvalidInputError: The last piece goes on, or a length is below 1.
    """
    if len(lengths) != len(ends) or (ends and ends[-1] == GOES_ON) or any(length < 1 for length in lengths):
        raise InvalidInputError(
            f"Pieces need lengths from 1 and as many ends, the last of which ends an episode; got {list(lengths)} and "
            f"{list(ends)}."
        )
    sizes = torch.tensor(lengths, dtype=torch.int64, device=device)
    codes = torch.tensor(ends, dtype=torch.int64, device=device)
    steps = torch.arange(sum(lengths), device=device)
    piece = torch.repeat_interleave(torch.arange(len(lengths), device=device), sizes, output_size=len(steps))
    is_last = torch.zeros_like(steps, dtype=torch.bool)
    is_last[sizes.cumsum(0) - 1] = True
    ends_of_steps = torch.where(is_last, codes[piece], GOES_ON)
    packed = PackedSteps(
        steps=steps,
        before=steps + piece,
        after=steps + piece + 1,
        terminated=ends_of_steps == TERMINATED,
        truncated=ends_of_steps == TRUNCATED,
        groups=None,
    )
    return packed if valid is None else _without_invalid(packed, valid)


def packed_vtrace(
    packed: PackedSteps,
    rewards: Tensor,
    values: Tensor,
    *,
    log_prob: Tensor,
    behaviour_log_prob: Tensor,
    gamma: float,
    rho_bar: float = 1.0,
    c_bar: float = 1.0,
    trace_lambda: float = 1.0,
) -> VTrace:
    """Value targets and advantages of packed steps; see `vtrace`. What an episode gives depends on no other.

    Args:
        packed: Where the steps lie.
        rewards: Of the steps that count. `[M]`
        values: Of all observations. That of the last one of an episode is read where it was truncated. `[S]`
        log_prob: Of the steps that count, under the policy that is learned. `[M]`
        behaviour_log_prob: Of the steps that count, under the policy that acted. `[M]`
        gamma: Discount of one step.
        rho_bar: Highest ratio in what a step teaches.
        c_bar: Highest ratio in how far later steps reach back.
        trace_lambda: Further factor of that reach.

    Returns:
        `[M]` each.
    """
    if len(packed) == 0:
        return VTrace(values=rewards, advantages=rewards)
    return vtrace(
        rewards,
        values[packed.before],
        values[packed.after],
        packed.terminated,
        packed.truncated,
        log_prob=log_prob,
        behaviour_log_prob=behaviour_log_prob,
        gamma=gamma,
        rho_bar=rho_bar,
        c_bar=c_bar,
        trace_lambda=trace_lambda,
    )


def _without_invalid(packed: PackedSteps, valid: Tensor) -> PackedSteps:
    """The steps that count alone, with the ends of their episodes and the rewards of what lies between them."""
    ended = packed.terminated | packed.truncated
    episode = ended.cumsum(0) - ended.long()
    chosen = valid.nonzero().squeeze(1)
    n_chosen = len(chosen)
    latest = valid.cumsum(0) - 1
    same = (latest >= 0) & (episode == torch.cat([episode[chosen], episode[:1]])[latest.clamp(min=0)])
    own = episode[chosen]
    is_last = torch.ones_like(own, dtype=torch.bool)
    is_last[:-1] = own[1:] != own[:-1]
    was_terminated = packed.terminated[ended][own]
    before = packed.before[chosen]
    return PackedSteps(
        steps=chosen,
        before=before,
        after=torch.where(is_last, before + 1, before.roll(-1)),
        terminated=is_last & was_terminated,
        truncated=is_last & ~was_terminated,
        groups=torch.where(same, latest, n_chosen),
    )
