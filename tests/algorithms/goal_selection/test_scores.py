from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from rl_framework.algorithms.goal_selection.candidates import Candidates, choose
from rl_framework.algorithms.goal_selection.goal_configs import DiverseConfig, MEGAConfig
from rl_framework.algorithms.goal_selection.goal_densities import (
    DENSITIES,
    FlowGoalDensityConfig,
    NoveltyGoalDensityConfig,
    as_density_config,
)
from rl_framework.algorithms.goal_selection.goal_memory import GoalMemory
from rl_framework.algorithms.goal_selection.scores import DensityScore, HardestScore, UniformScore
from rl_framework.algorithms.replay_part import ReplayPart
from rl_framework.errors import InvalidInputError, UnknownOptionError
from tests.algorithms.goal_selection.goal_workshop import goal_parts, observed, step


def candidates(goals: Tensor, values: Tensor) -> Candidates:
    return Candidates(goals=goals, values=values, observations=observed(torch.zeros(len(goals), 2), goals[:, 0]))


def remember(shop: Any, achieved: Tensor) -> None:
    """Put goals into the replay, two at a time."""
    for pair in achieved.reshape(-1, 2, 2):
        nothing = torch.zeros(2, 2)
        shop.parts.get(ReplayPart).process(step(nothing, pair, nothing, nothing, torch.tensor([False, False])))


def cloud(n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 2, generator=generator) * torch.tensor([1.0, 4.0]) + 2.0


def test_mega_picks_what_is_least_dense_of_what_is_within_reach() -> None:
    shop = goal_parts(MEGAConfig().make())
    achieved = cloud(400)
    remember(shop, achieved)
    score = DensityScore(as_density_config({"kind": "kernel", "n_points": 4000}).make())
    score.set_up(GoalMemory(shop.parts.get(ReplayPart)), shop)
    generator = torch.Generator().manual_seed(3)
    goals = torch.cat([achieved[:80].reshape(8, 10, 2), 3.0 * cloud(80, seed=4).reshape(8, 10, 2)], 1)
    values = -10.0 * torch.rand(8, 20, generator=generator)
    drawn = shop.generator.get_state()

    chosen = choose(score.log_weights(candidates(goals, values)), values, -5.0, None)

    shop.generator.set_state(drawn)
    points = shop.parts.get(ReplayPart).achieved(4000, shop.generator).double()
    units = points.std(0, correction=0) + 1e-4
    for row in range(8):
        difference = (goals[row, :, None].double() - points) / units / 0.1
        density = torch.logsumexp(-0.5 * difference.square().sum(2), 1)
        viable = [index for index in range(20) if values[row, index].item() >= -5.0]
        assert int(chosen[row]) == min(viable, key=lambda index: density[index].item())


@pytest.mark.parametrize(
    "config", [NoveltyGoalDensityConfig(), FlowGoalDensityConfig(hidden_size=64)], ids=lambda each: str(each.kind)
)
def test_learned_densities_come_to_know_what_is_common(
    config: NoveltyGoalDensityConfig | FlowGoalDensityConfig,
) -> None:
    shop = goal_parts(MEGAConfig().make())
    remember(shop, cloud(600))
    score = DensityScore(config.make())
    score.set_up(GoalMemory(shop.parts.get(ReplayPart)), shop)
    common, rare = cloud(100, seed=5), cloud(100, seed=6) + torch.tensor([12.0, 0.0])
    both = candidates(torch.stack([common, rare], 1), torch.zeros(100, 2))
    at_first = score.log_weights(both)

    for number in range(1, 201):
        score.learn(number)

    assert bool(at_first.isfinite().all())
    assert (score.log_weights(both).argmax(1) == 1).float().mean().item() > 0.98


@pytest.mark.parametrize("kind", DENSITIES)
def test_densities_go_on_where_they_were_saved(kind: str) -> None:
    config = as_density_config(kind)
    ones = [goal_parts(MEGAConfig(density=config).make(), seed=seed) for seed in (1, 2)]
    scores = [DensityScore(config.make()) for _ in ones]
    for shop, score in zip(ones, scores, strict=True):
        remember(shop, cloud(100))
        score.set_up(GoalMemory(shop.parts.get(ReplayPart)), shop)
    for number in range(1, 5):
        scores[0].learn(number)
    saved, drawn = scores[0].state_dict(), ones[0].generator.get_state()
    asked = candidates(cloud(10, seed=7).reshape(2, 5, 2), torch.zeros(2, 5))

    def go_on(score: DensityScore) -> Tensor:
        for number in range(5, 9):
            score.learn(number)
        return score.log_weights(asked)

    expected = go_on(scores[0])
    scores[1].load_state_dict(saved)
    ones[1].generator.set_state(drawn)

    assert torch.equal(go_on(scores[1]), expected)


def test_the_hardest_goal_has_the_lowest_value_and_weights_are_distances_below_zero() -> None:
    values = torch.tensor([[-1.0, -4.0, -2.0], [3.0, 1.0, 2.5]])

    weights = HardestScore().log_weights(candidates(torch.zeros(2, 3, 2), values)).exp()

    assert weights[0].tolist() == pytest.approx([1.0, 4.0, 2.0])
    assert weights[1].tolist() == pytest.approx([0.0, 2.0, 0.5], abs=1e-6)


def test_uniform_weights_are_equal() -> None:
    assert torch.equal(
        UniformScore().log_weights(candidates(torch.ones(1, 4, 2), -torch.arange(4.0)[None])), torch.zeros(1, 4)
    )


def test_diverse_goals_are_spread_evenly_over_what_was_achieved() -> None:
    config = DiverseConfig(density={"kind": "kernel", "bandwidth": 0.2, "n_points": 5000})
    shop = goal_parts(config.make())
    # Nine of ten are on the left.
    achieved = torch.rand(1000, 2, generator=torch.Generator().manual_seed(0))
    achieved[900:, 0] += 9.0
    remember(shop, achieved)
    score = config.make_score()
    score.set_up(GoalMemory(shop.parts.get(ReplayPart)), shop)
    drawn = achieved[torch.randint(1000, (400, 50), generator=torch.Generator().manual_seed(1))]

    weights = score.log_weights(candidates(drawn, torch.zeros(400, 50)))
    chosen = choose(weights, torch.zeros(400, 50), None, torch.Generator().manual_seed(2))

    on_the_right = torch.take_along_dim(drawn, chosen[:, None, None], 1)[:, 0, 0] > 5.0
    assert (drawn[..., 0] > 5.0).float().mean().item() == pytest.approx(0.1, abs=0.02)
    assert on_the_right.float().mean().item() == pytest.approx(0.5, abs=0.1)


def test_settings_of_densities_are_checked() -> None:
    with pytest.raises(UnknownOptionError, match=r"Unknown density of goals: 'kernels'\. Did you mean 'kernel'"):
        as_density_config("kernels")
    with pytest.raises(UnknownOptionError, match="kernel of a density"):
        as_density_config({"kind": "kernel", "kernel": "box"})
    with pytest.raises(InvalidInputError, match="bandwidth of a density"):
        as_density_config({"kind": "kernel", "bandwidth": math.inf})
    with pytest.raises(InvalidInputError, match=r"call refresh\(\)"):
        as_density_config("kernel").make().log_density(torch.zeros(1, 2))
