"""Rollouts of random numbers, for tests of what is done with rollouts."""

from __future__ import annotations

import torch
from torch import Tensor

from rl_framework.data.rollout import Rollout


def make_rollout(
    n_steps: int = 6,
    n_rows: int = 4,
    *,
    seed: int = 0,
    ends: float = 0.3,
    state_interval: int = 0,
    has_values: bool = True,
) -> Rollout:
    """Every observation holds its own step and row; with memory, `states` hold the step before which they were."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(n_steps, n_rows, *shape, generator=generator)

    def flags(share: float) -> Tensor:
        return torch.rand(n_steps, n_rows, generator=generator) < share

    terminated = flags(ends / 2)
    truncated = flags(ends / 2) & ~terminated
    starts = torch.cat([flags(0.0)[:1], (terminated | truncated)[:-1]])
    values, unseen = numbers(), numbers()
    after = torch.cat([values[1:], unseen[-1:]])
    steps, rows = torch.arange(n_steps), torch.arange(n_rows)
    return Rollout(
        observations={"place": torch.cartesian_prod(steps, rows).view(n_steps, n_rows, 2), "noise": numbers(3)},
        actions=(numbers(2), flags(0.5)),
        rewards=numbers(),
        terminated=terminated,
        truncated=truncated,
        starts=starts,
        log_prob=numbers(),
        values=values if has_values else None,
        next_values=torch.where(truncated, unseen, after) if has_values else None,
        masks=None,
        states=_states(n_steps, n_rows, state_interval),
        state_interval=state_interval,
        extras={"weight": numbers(), "features": numbers(5)},
    )


def places(rollout: Rollout) -> list[tuple[int, int]]:
    """The step and the row from which each transition came, in the order in which they are now."""
    return [(int(step), int(row)) for step, row in rollout.observations["place"].reshape(-1, 2)]


def assert_same(one: Rollout, other: Rollout) -> None:
    """Every column of both is the same, bit for bit."""
    columns, others = list(one.named_columns()), list(other.named_columns())
    assert [name for name, _ in columns] == [name for name, _ in others]
    for (name, column), (_, twin) in zip(columns, others, strict=True):
        assert torch.equal(column, twin), name


def _states(n_steps: int, n_rows: int, interval: int) -> Tensor | None:
    if not interval:
        return None
    steps = torch.arange(0, n_steps, interval).view(-1, 1, 1)
    return torch.cat([steps.expand(-1, n_rows, 1), torch.arange(n_rows).view(1, -1, 1).expand(len(steps), -1, 1)], 2)
