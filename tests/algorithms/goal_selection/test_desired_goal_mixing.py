from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rl_framework.algorithms.goal_selection.desired_goal_mixing import DesiredGoalMixing, mixing_share
from rl_framework.algorithms.goal_selection.goal_configs import OMEGAConfig
from rl_framework.algorithms.goal_selection.goal_memory import GoalMemory
from rl_framework.algorithms.replay_part import ReplayPart
from tests.algorithms.goal_selection.goal_workshop import Walk, goal_parts


def normal(n: int, seed: int, shift: float = 0.0, spread: float = 1.0) -> Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed)) * spread + shift


def slow_share(desired: Tensor, achieved: Tensor, bias: float) -> float:
    desired, achieved = desired.double(), achieved.double()
    scale = (achieved.std(0, correction=0) + 1e-4) * 0.1

    def log_density(points: Tensor) -> Tensor:
        differences = (desired[:, None] - points) / scale
        count = torch.tensor(float(len(points)), dtype=torch.float64)
        return torch.logsumexp(-0.5 * differences.square().sum(2), 1) - count.log()

    divergence = (log_density(desired) - log_density(achieved)).mean().item()
    return 1.0 / max(bias + divergence, 1.0)


def test_where_what_is_achieved_is_what_is_desired_environments_goals_are_always_pursued() -> None:
    points = normal(500, seed=0)

    assert mixing_share(points, points, bias=-3.0).item() == 1.0
    assert mixing_share(normal(1000, seed=1), normal(5000, seed=2), bias=-3.0).item() == 1.0


@pytest.mark.parametrize("shift", [3.0, 6.0, 20.0])
def test_far_from_it_the_share_is_one_by_the_divergence(shift: float) -> None:
    desired, achieved = normal(200, seed=3, shift=shift, spread=0.5), normal(600, seed=4)

    share = mixing_share(desired, achieved, bias=-3.0).item()

    assert share == pytest.approx(slow_share(desired, achieved, -3.0), rel=1e-5)
    assert share < 0.2


def test_the_bias_is_added_to_the_divergence() -> None:
    desired, achieved = normal(200, seed=3, shift=4.0), normal(600, seed=4)

    shares = [1.0 / mixing_share(desired, achieved, bias=bias).item() for bias in (0.0, 2.5)]

    assert shares[1] - shares[0] == pytest.approx(2.5, rel=1e-4)


def test_estimates_are_made_when_they_are_due_and_saved() -> None:
    shop = goal_parts(OMEGAConfig().make())
    Walk(shop, own=(0.2, 0.2)).take(40)
    mixings = [DesiredGoalMixing() for _ in range(2)]
    for mixing in mixings:
        mixing.set_up(GoalMemory(shop.parts.get(ReplayPart)), shop)

    assert mixings[0].share() == 0.0
    mixings[0].learn(1)
    first = mixings[0].share()
    drawn = shop.generator.get_state()
    mixings[0].learn(100)
    assert mixings[0].share() == first > 0.0
    assert torch.equal(shop.generator.get_state(), drawn)
    mixings[1].load_state_dict(mixings[0].state_dict())
    assert mixings[1].share() == first
    mixings[0].learn(101)
    mixings[0].share()
    assert not torch.equal(shop.generator.get_state(), drawn)
