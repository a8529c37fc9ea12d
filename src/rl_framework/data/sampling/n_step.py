"""What several steps in a row earned, and how much what follows them counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rl_framework.data.replay_buffer import ReplayBuffer


@dataclass(frozen=True, kw_only=True, slots=True)
class Windows:
    """Up to n steps in a row, from each of N rows on.

    Attributes:
        rows: The steps; where an episode has no more of them, its last one again. `[N, n]`, int64
        inside: Whether a step is another one of the same episode. `[N, n]`, bool
    """

    rows: Tensor
    inside: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Returns:
    """What N windows earned.

    Attributes:
        rewards: Discounted sums. `[N, k]`, float32
        discounts: How much what follows counts: the factor to the power of `steps`, 0 behind an ending. `[N, k]`
        steps: How many steps count, at least one. `[N]`, int64
    """

    rewards: Tensor
    discounts: Tensor
    steps: Tensor


def windows(replay: ReplayBuffer, rows: Tensor, n_step: int) -> Windows:
    """The n steps from each row on, as far as they are stored and belong to the same episode. `[N]`"""
    offsets = torch.arange(n_step, device=rows.device)
    after = replay.steps_after(rows).unsqueeze(1)
    steps = torch.minimum(offsets, after)
    starts = rows.unsqueeze(1).expand(-1, n_step)
    found = replay.later(starts.reshape(-1), steps.reshape(-1)).view(-1, n_step)
    return Windows(rows=found, inside=offsets <= after)


def discount_powers(gammas: Sequence[float], n_step: int, device: torch.device) -> Tensor:
    """Each discount factor to the powers 0 to n. `[n + 1, k]`, float32"""
    exponents = torch.arange(n_step + 1, dtype=torch.float64, device=device).unsqueeze(1)
    return (torch.tensor(gammas, dtype=torch.float64, device=device) ** exponents).float()


def n_step_returns(rewards: Tensor, ended: Tensor, inside: Tensor, powers: Tensor) -> Returns:
    """Discounted sums of rewards up to the first ending.

    A window that leaves its episode without an ending (a time limit, the newest step of a running episode) is shorter:
    m steps are discounted by the factor to the power of m.

    Source: Watkins, Learning from Delayed Rewards (1989); Sutton and Barto, Reinforcement Learning (2018), section 7.1.

    Args:
        rewards: Of each step. `[N, n]`
        ended: Nothing follows a step. `[N, n]`, bool
        inside: Whether a step belongs to the window; the first one does. `[N, n]`, bool
        powers: Of the discount factors, from 0 to n. `[n + 1, k]`
    """
    endings = ended.cumsum(1)
    counts = inside & (endings - ended.to(endings.dtype) == 0)
    steps = counts.sum(1)
    is_over = (counts & ended).any(1, keepdim=True)
    counted = torch.where(counts, rewards, 0.0)
    sums = (counted.unsqueeze(2) * powers[:-1]).sum(1)
    discounts = torch.where(is_over, 0.0, powers.index_select(0, steps))
    return Returns(rewards=sums, discounts=discounts, steps=steps)


def one_step_returns(rewards: Tensor, ended: Tensor, gammas: Tensor) -> tuple[Tensor, Tensor]:
    """What `n_step_returns` gives for single steps, with fewer operations.

    Args:
        rewards: `[N]`
        ended: Nothing follows. `[N]`, bool
        gammas: Discount factors. `[k]`

    Returns:
        Rewards and discounts. `[N, k]` each
    """
    return rewards.unsqueeze(1).expand(-1, len(gammas)), gammas.masked_fill(ended.unsqueeze(1), 0.0)
