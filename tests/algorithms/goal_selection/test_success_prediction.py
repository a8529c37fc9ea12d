from __future__ import annotations

import pytest
import torch

from rl_framework.algorithms.goal_selection.candidates import Candidates
from rl_framework.algorithms.goal_selection.goal_configs import AchievedConfig
from rl_framework.algorithms.goal_selection.goal_memory import GoalMemory
from rl_framework.algorithms.goal_selection.success_prediction import (
    IntermediateDifficultyScore,
    SuccessPredictionConfig,
)
from rl_framework.algorithms.parts import Experience, Workshop
from rl_framework.algorithms.replay_part import ReplayPart
from rl_framework.errors import InvalidInputError
from tests.algorithms.goal_selection.goal_workshop import goal_parts, observed, step

FAST = SuccessPredictionConfig(every=1, batch_size=64, hidden_size=32, learning_rate=3e-3)


def make(config: SuccessPredictionConfig = FAST) -> tuple[IntermediateDifficultyScore, Workshop]:
    shop, score = goal_parts(AchievedConfig().make()), IntermediateDifficultyScore(config)
    score.set_up(GoalMemory(shop.parts.get(ReplayPart)), shop)
    return score, shop


def play(score: IntermediateDifficultyScore, n_episodes: int, seed: int) -> None:
    """Episodes of three steps in two environments; goals at a distance of 1 are reached half of the time."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n_episodes):
        distance = 2.0 * torch.rand(2, 1, generator=generator)
        direction = torch.nn.functional.normalize(torch.randn(2, 2, generator=generator))
        goals, starts = distance * direction, torch.zeros(2, 2)
        chance = torch.sigmoid((1.0 - distance.squeeze(1)) * 8.0)
        success = torch.rand(2, generator=generator) < chance
        for number in range(3):
            ended = torch.full((2,), number == 2)
            moved = starts if number == 0 else torch.full((2, 2), 9.0)
            score.watch(step(moved, moved, goals, goals, ended), success & (number > 0))


def still(number: float, ended: torch.Tensor) -> Experience:
    """A step from a place to itself."""
    place = torch.full((2, 2), number)
    return step(place, place, place, place, ended)


def test_it_learns_from_the_first_observations_and_picks_goals_that_may_or_may_not_be_reached() -> None:
    score, _ = make()
    play(score, 100, seed=0)

    for number in range(1, 301):
        score.learn(number)

    far = torch.linspace(0.05, 1.95, 39)
    goals = torch.stack([far, torch.zeros(39)], 1)[None]
    seen = observed(torch.zeros(1, 2), torch.zeros(1, 2))
    weights = score.log_weights(Candidates(goals=goals, values=torch.zeros(1, 39), observations=seen)).exp()[0]
    assert far[weights.argmax()].item() == pytest.approx(1.0, abs=0.25)
    assert weights[0].item() < 0.1
    assert weights[-1].item() < 0.1


def test_only_the_latest_episodes_are_kept() -> None:
    score, _ = make(SuccessPredictionConfig(n_episodes=6))
    for number in range(5):
        goals = torch.full((2, 2), float(number))
        score.watch(step(goals, goals, goals, goals, torch.tensor([True, True])), torch.tensor([False, True]))

    state = score.state_dict()

    assert sorted(state["inputs"][:, -1].tolist()) == [2.0, 2.0, 3.0, 3.0, 4.0, 4.0]
    assert state["successes"].sum().item() == 3.0


def test_episodes_that_are_abandoned_are_forgotten() -> None:
    score, _ = make(SuccessPredictionConfig(n_episodes=2))
    ones, running, over = torch.ones(2, 2), torch.tensor([False, False]), torch.tensor([True, True])
    score.watch(step(ones, ones, ones, ones, running), running)

    score.begin()
    score.watch(step(ones * 7.0, ones, ones, ones, running), running)
    score.watch(step(ones * 8.0, ones, ones, ones, over), running)

    assert score.state_dict()["inputs"][:, 0].tolist() == [7.0, 7.0]


def test_it_goes_on_where_it_was_saved() -> None:
    (score, shop), (other, other_shop) = make(), make()
    play(score, 20, seed=1)
    score.watch(still(1.0, torch.tensor([False, True])), torch.tensor([False, True]))
    for number in range(1, 20):
        score.learn(number)
    saved, drawn = score.state_dict(), shop.generator.get_state()

    def go_on(one: IntermediateDifficultyScore) -> dict[str, torch.Tensor]:
        one.watch(still(0.0, torch.tensor([True, True])), torch.tensor([False, True]))
        play(one, 5, seed=2)
        for number in range(20, 30):
            one.learn(number)
        return one.network.state_dict()

    expected = go_on(score)
    other.load_state_dict(saved)
    other_shop.generator.set_state(drawn)
    found = go_on(other)

    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_settings_and_order_are_checked() -> None:
    with pytest.raises(InvalidInputError, match="every of the prediction of success"):
        SuccessPredictionConfig(every=0)
    with pytest.raises(InvalidInputError, match="Set the prediction of success up"):
        IntermediateDifficultyScore().state_dict()
