"""Rewards and lengths of episodes out of rectangular columns: no loop over steps, nothing per step for the host."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rl_framework.data.episode_table import EpisodeTable

SUCCESSES = "is_success"
"""Name of the extra column in which a rollout knows, step by step, what would be a success if the episode ended."""


def running_totals(
    rewards: Tensor, ended: Tensor, returns_before: Tensor, lengths_before: Tensor
) -> tuple[Tensor, Tensor]:
    """What the running episode of each row has earned and lasted after the last step; nothing waits for the host.

    Args:
        rewards: `[T, B]`
        ended: Whether an episode ended with the step. `[T, B]`
        returns_before: Rewards of the running episodes before the first step, float64. `[B]`
        lengths_before: Their steps, int64. `[B]`

    Returns:
        Rewards, float64, and steps, int64. `[B]` each
    """
    last = _last_end(ended)
    after = _steps(rewards) > last
    is_fresh = last >= 0
    earned = torch.where(after, rewards.to(torch.float64), 0.0).sum(0)
    returns = torch.where(is_fresh, earned, returns_before + earned)
    lengths = torch.where(is_fresh, len(rewards) - 1 - last, lengths_before + len(rewards))
    return returns, lengths


def ended_episodes(
    rewards: Tensor,
    ended: Tensor,
    returns_before: Tensor,
    lengths_before: Tensor,
    *,
    successes: Tensor | None = None,
) -> EpisodeTable:
    """Summaries of the episodes that ended, in the order in which they did; with one transfer to the host.

    Args:
        rewards: `[T, B]`
        ended: Whether an episode ended with the step. `[T, B]`
        returns_before: Rewards of the running episodes before the first step, float64. `[B]`
        lengths_before: Their steps, int64. `[B]`
        successes: Whether an episode that ends with the step is one, None where the environments do not say. `[T, B]`
    """
    row, step = ended.t().nonzero(as_tuple=True)
    if len(row) == 0:
        nothing = np.zeros(0, np.int64)
        return EpisodeTable(nothing, np.zeros(0), nothing, None if successes is None else np.zeros(0, np.bool_))
    total = rewards.cumsum(0, dtype=torch.float64)[step, row] + returns_before[row]
    length = step + 1 + lengths_before[row]
    opens = torch.ones_like(row, dtype=torch.bool)
    opens[1:] = row[1:] != row[:-1]
    total = total - _previous(total).masked_fill_(opens, 0.0)
    length = length - _previous(length).masked_fill_(opens, 0)
    columns = [row, total, length] if successes is None else [row, total, length, successes[step, row]]
    found = torch.stack([column.to(torch.float64) for column in columns])
    rows, totals, lengths, *said = found[:, step.argsort(stable=True)].cpu().numpy()
    table = rows.astype(np.int64), totals, lengths.astype(np.int64)
    return EpisodeTable(*table, said[0].astype(np.bool_) if said else None)


def _last_end(ended: Tensor) -> Tensor:
    """The last step with which an episode ended in each row, -1 where none did. `[B]`"""
    return torch.where(ended, _steps(ended), -1).amax(0)


def _steps(column: Tensor) -> Tensor:
    return torch.arange(len(column), device=column.device).unsqueeze(1)


def _previous(ends: Tensor) -> Tensor:
    """Of the end before, whichever row it belongs to; of the first, its own."""
    return torch.cat([ends[:1], ends[:-1]])
