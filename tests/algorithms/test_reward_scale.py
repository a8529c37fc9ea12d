"""Rewards are divided by how much discounted returns vary, whatever horizons they come in."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rl_framework.algorithms.reward_scale import RewardScale

GAMMA = 0.9
CPU = torch.device("cpu")


def made(steps: int = 12, rows: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    rewards = 5.0 * torch.randn(steps, rows, generator=generator)
    starts = torch.rand(steps, rows, generator=generator) < 0.2
    starts[0] = True
    return rewards, starts


def returns_step_by_step(rewards: Tensor, starts: Tensor) -> list[float]:
    found = []
    for row in range(rewards.shape[1]):
        running = 0.0
        for step in range(len(rewards)):
            running = float(rewards[step, row]) + (0.0 if starts[step, row] else GAMMA * running)
            found.append(running)
    return found


def test_the_scale_of_one_rollout_is_that_of_its_returns() -> None:
    rewards, starts = made()
    scaled = RewardScale("rollout", GAMMA, CPU).scale(rewards, starts)
    expected = torch.tensor(returns_step_by_step(rewards, starts)).std()
    torch.testing.assert_close(scaled, rewards / expected)


@pytest.mark.parametrize("cut", [1, 5, 11])
def test_running_statistics_do_not_depend_on_where_horizons_end(cut: int) -> None:
    rewards, starts = made()
    whole, parts = RewardScale("running", GAMMA, CPU), RewardScale("running", GAMMA, CPU)
    at_once = whole.scale(rewards, starts)
    parts.scale(rewards[:cut], starts[:cut])
    last = parts.scale(rewards[cut:], starts[cut:])
    torch.testing.assert_close(last, at_once[cut:])
    variance = torch.tensor(returns_step_by_step(rewards, starts), dtype=torch.float64).var(correction=0)
    torch.testing.assert_close(at_once, rewards / variance.sqrt().float())


def test_returns_go_on_over_a_horizon_unless_they_are_forgotten() -> None:
    rewards, starts = made()
    starts[6] = False
    on, anew = RewardScale("rollout", GAMMA, CPU), RewardScale("rollout", GAMMA, CPU)
    for scale in (on, anew):
        scale.scale(rewards[:6], starts[:6])
    anew.forget_rows()
    assert not torch.equal(on.scale(rewards[6:], starts[6:]), anew.scale(rewards[6:], starts[6:]))


def test_another_number_of_rows_begins_anew() -> None:
    scale = RewardScale("running", GAMMA, CPU)
    scale.scale(*made(rows=3))
    rewards, starts = made(rows=2)
    assert scale.scale(rewards, starts).shape == rewards.shape


@pytest.mark.parametrize("kind", ["rollout", "running"])
def test_steps_that_did_not_happen_have_no_part(kind: str) -> None:
    rewards, starts = made()
    valid = torch.ones_like(starts)
    valid[8:, 1] = False
    padded = torch.where(valid, rewards, 0.0)
    scaled = RewardScale(kind, GAMMA, CPU).scale(padded, starts, valid)
    kept = torch.tensor(returns_step_by_step(padded, starts)).reshape(3, 12).t()[valid]
    expected = kept.std() if kind == "rollout" else kept.std(correction=0)
    torch.testing.assert_close(scaled, padded / expected)


def test_none_leaves_rewards_as_they_are() -> None:
    rewards, starts = made()
    assert RewardScale("none", GAMMA, CPU).scale(rewards, starts) is rewards


def test_the_state_carries_statistics_and_rows() -> None:
    rewards, starts = made()
    one, other = RewardScale("running", GAMMA, CPU), RewardScale("running", GAMMA, CPU)
    one.scale(rewards[:6], starts[:6])
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.scale(rewards[6:], starts[6:]), other.scale(rewards[6:], starts[6:]))
