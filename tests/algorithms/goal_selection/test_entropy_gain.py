from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rl_framework.algorithms.goal_selection.entropy_gain import GoalDensities, expected_entropy_gain
from rl_framework.functional.kernel_density import KernelDensity


def numbers(n: int, width: int, seed: int) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_gain(goals: list[Tensor], densities: GoalDensities, share: float) -> list[float]:
    """Candidate by candidate, as it is written down."""

    def log_density(density: KernelDensity, *parts: Tensor) -> float:
        return density.log_density(torch.cat(parts).unsqueeze(0)).item()

    def gain(goal: Tensor) -> float:
        before = math.exp(log_density(densities.achieved, goal))
        after = before + share
        return (-after * math.log(after) + before * math.log(before)) / share

    found = []
    for index, pursued in enumerate(goals):
        window = [goals[(index + offset) % len(goals)] for offset in range(10)]
        weights = [
            math.exp(log_density(densities.joint, pursued, each) - log_density(densities.pursued, pursued))
            for each in window
        ]
        share_of = [weight / sum(weights) for weight in weights]
        found.append(sum(gain(each) * weight for each, weight in zip(window, share_of, strict=True)) / 10)
    return found


def test_gain_is_what_a_loop_over_candidates_finds() -> None:
    pursued, achieved = numbers(200, 2, seed=0), numbers(200, 2, seed=1)
    fitted = [KernelDensity.fit(each, bandwidth=0.5) for each in (pursued, achieved, torch.cat([pursued, achieved], 1))]
    densities = GoalDensities(*fitted)
    goals = numbers(36, 2, seed=2).reshape(3, 12, 2)

    found = expected_entropy_gain(goals, densities, 1e-4)

    for row in range(3):
        assert found[row].tolist() == pytest.approx(slow_gain(list(goals[row]), densities, 1e-4), rel=1e-6)


def test_pursuing_what_leads_to_rare_goals_gains_most() -> None:
    # What is pursued is achieved; nine of ten were on the left.
    goals = torch.rand(1000, 2, generator=torch.Generator().manual_seed(3))
    goals[900:, 0] += 3.0
    achieved = goals + 0.05 * numbers(1000, 2, seed=4).float()
    fitted = [KernelDensity.fit(each) for each in (goals, achieved, torch.cat([goals, achieved], 1))]

    gain = expected_entropy_gain(goals[torch.tensor([0, 950, 1, 960]).repeat(5)][None], GoalDensities(*fitted), 1e-3)

    assert gain[0, 1::2].min().item() > gain[0, ::2].max().item()
