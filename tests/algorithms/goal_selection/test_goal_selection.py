from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from rl_framework.algorithms.goal_selection.candidates import Candidates
from rl_framework.algorithms.goal_selection.goal_configs import (
    GOAL_SELECTIONS,
    AchievedConfig,
    EntropyGainConfig,
    GoalSelectionConfig,
    IntermediateDifficultyConfig,
    MEGAConfig,
    MinQConfig,
    OMEGAConfig,
)
from rl_framework.algorithms.goal_selection.goal_selection import GoalSelection
from rl_framework.algorithms.goal_selection.scores import GoalScore
from rl_framework.algorithms.parts import Parts
from rl_framework.algorithms.replay_config import ReplayConfig
from rl_framework.algorithms.replay_part import ReplayPart
from rl_framework.core.goals import ACHIEVED_GOAL, DESIRED_GOAL
from rl_framework.errors import InvalidInputError, SpaceError
from tests.algorithms.goal_selection.goal_workshop import KnownValues, Walk, goal_parts, observed, step

SMALL: dict[str, dict[str, Any]] = {
    "mega": {"density": {"kind": "kernel", "n_points": 200}},
    "omega": {
        "density": {"kind": "flow", "hidden_size": 16, "batch_size": 50},
        "mixing": {"n_achieved": 200, "every": 5},
    },
    "diverse": {"density": {"kind": "novelty", "hidden_size": 16, "batch_size": 50}},
    "intermediate_difficulty": {"prediction": {"hidden_size": 16, "every": 2}},
    "entropy_gain": {"n_points": 200},
}
HERE, OWN = torch.zeros(2, 2), torch.full((2, 2), 5.0)
RUNNING, FIRST_ENDS = torch.tensor([False, False]), torch.tensor([True, False])


def small(kind: str, **settings: Any) -> GoalSelectionConfig:
    return GOAL_SELECTIONS[kind](**{"n_candidates": 12, **SMALL.get(kind, {}), **settings})


def begun(config: GoalSelectionConfig, n_remembered: int = 0) -> tuple[GoalSelection, Any]:
    """A selection at the beginning, with goals on the x axis, 0.1 apart, in the replay."""
    goals = config.make()
    shop = goal_parts(goals)
    for number in range(0, n_remembered, 2):
        achieved = torch.tensor([[0.1 * number, 0.0], [0.1 * (number + 1), 0.0]])
        shop.parts.get(ReplayPart).process(step(HERE, achieved, OWN, OWN, RUNNING))
    goals.begin(observed(HERE, OWN))
    return goals, shop


def test_environments_goals_are_pursued_until_an_episode_is_over() -> None:
    goals, shop = begun(small("mega"))

    seen = goals.relabel(observed(HERE + 1.0, OWN))
    shop.parts.process(step(HERE, HERE + 1.0, OWN, OWN, RUNNING))

    assert torch.equal(seen[DESIRED_GOAL], OWN)
    assert torch.equal(seen[ACHIEVED_GOAL], HERE + 1.0)
    assert torch.equal(goals.pursued, OWN)


@pytest.mark.parametrize("kind", GOAL_SELECTIONS)
def test_new_goals_were_achieved_before_and_come_only_where_episodes_end(kind: str) -> None:
    goals = small(kind).make()
    walk = Walk(goal_parts(goals), n_envs=3)

    walk.take(40)

    assert len(walk.history) == 40
    buffer_goals = walk.goals._memory._replay.buffer.read(["next_observations.achieved_goal"], torch.arange(120))
    achieved = {tuple(goal) for goal in buffer_goals["next_observations.achieved_goal"].tolist()} | {(5.0, 5.0)}
    changes = 0
    for number, (before, after) in enumerate(zip(walk.history, walk.history[1:], strict=False)):
        ended = (torch.arange(3) * 3 + number + 1) % 8 == 7
        changed = (before != after).any(1)
        assert not bool((changed & ~ended).any())
        assert {tuple(goal) for goal in after.tolist()} <= achieved
        changes += int(changed.sum())
    assert changes >= 8


def test_the_hardest_goal_within_reach_is_pursued_and_never_one_beyond_the_cutoff() -> None:
    goals, shop = begun(MinQConfig(n_candidates=400), n_remembered=100)

    shop.parts.process(step(HERE, HERE, OWN, OWN, FIRST_ENDS))

    # A goal costs ten times its distance; the cut-off is at -3.
    assert goals.pursued[0].tolist() == pytest.approx([0.3, 0.0])
    assert goals.pursued[1].tolist() == [5.0, 5.0]


def test_mega_pursues_the_rarest_goal_within_reach() -> None:
    goals, shop = begun(MEGAConfig(n_candidates=1000))
    remembered = torch.cat([torch.zeros(96, 2), torch.tensor([[0.25, 0.0], [0.0, 0.1], [9.0, 0.0], [0.0, 9.0]])])
    for pair in remembered.reshape(-1, 2, 2):
        shop.parts.get(ReplayPart).process(step(HERE, pair, OWN, OWN, RUNNING))

    shop.parts.process(step(HERE, HERE, OWN, OWN, FIRST_ENDS))

    assert goals.pursued[0].tolist() in ([0.25, 0.0], [pytest.approx(0.0), pytest.approx(0.1)])


def test_where_nothing_is_within_reach_the_most_valuable_goal_is_pursued() -> None:
    goals, shop = begun(MEGAConfig(n_candidates=300), n_remembered=60)

    far_left = torch.tensor([[-50.0, 0.0], [0.0, 0.0]])
    shop.parts.process(step(HERE, HERE + 2.0, OWN, OWN, FIRST_ENDS, starts=far_left))

    assert goals.pursued[0].tolist() == [0.0, 0.0]


def test_the_environment_s_share_of_goals_is_kept() -> None:
    goals, shop = begun(AchievedConfig(environment_share=0.3), n_remembered=20)
    kept = 0

    for _ in range(400):
        shop.parts.process(step(HERE, HERE, OWN, OWN, FIRST_ENDS))
        kept += goals.pursued[0].tolist() == [5.0, 5.0]

    assert kept / 400 == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize(("own", "is_pursued"), [((0.2, 0.0), True), ((5.0, 5.0), False)])
def test_omega_pursues_covered_environment_goals_if_they_are_within_reach(
    own: tuple[float, float], is_pursued: bool
) -> None:
    # All that is achieved is all that is asked for, so the share is 1; what is left is whether it is viable.
    goals, shop = begun(OMEGAConfig())
    asked = torch.tensor([own, own])
    for _ in range(20):
        shop.parts.get(ReplayPart).process(step(HERE, asked, asked, asked, RUNNING))
    shop.parts.get(ReplayPart).process(step(HERE, asked + 0.001, asked, asked, RUNNING))
    goals.optimize(1)
    shop.parts.process(step(HERE, asked, asked, asked, RUNNING))

    shop.parts.process(step(HERE, asked + 0.001, asked, asked, FIRST_ENDS))

    assert goals.mixing is not None
    assert goals.mixing.share() == 1.0
    assert (goals.optimize(2)["goals/environment_share"] == 1.0) is is_pursued


def test_random_actions_become_likelier_with_each_step_at_the_goal() -> None:
    goals, shop = begun(AchievedConfig(go_explore=0.2), n_remembered=4)
    found = []

    for after in (OWN, OWN, HERE, OWN):
        shop.parts.process(step(HERE, torch.stack([after[0], HERE[0]]), goals.pursued, OWN, RUNNING))
        found.append(goals.extra_epsilon)
    shop.parts.process(step(HERE, HERE, goals.pursued, OWN, FIRST_ENDS))
    found.append(goals.extra_epsilon)

    told = [extra.tolist() for extra in found if extra is not None]
    assert [first for first, _ in told] == pytest.approx([0.2, 0.4, 0.4, 0.6, 0.0])
    assert [second for _, second in told] == [0.0] * 5
    assert begun(AchievedConfig(go_explore=0.0))[0].extra_epsilon is None


@pytest.mark.parametrize("at_the_end", [True, False])
def test_successes_move_the_cutoff_even_those_of_the_last_step(at_the_end: bool) -> None:
    goals, shop = begun(MinQConfig(), n_remembered=400)
    assert goals.cutoff is not None

    for _ in range(10):
        there, pursued = goals.pursued.clone(), goals.pursued
        if not at_the_end:
            shop.parts.process(step(HERE, there, pursued, OWN, RUNNING))
        led_to = there if at_the_end else there + 3.0
        shop.parts.process(step(HERE, led_to, pursued, OWN, FIRST_ENDS))

    assert goals.cutoff.value == -4.0
    metrics = goals.optimize(1)
    assert metrics["goals/cutoff"] == -4.0
    assert metrics["goals/success_rate"] == 1.0


def test_goals_near_those_asked_for_get_their_bonus() -> None:
    asked = torch.tensor([[0.2, 0.0], [0.2, 0.0]])
    plain, with_bonus = AchievedConfig(), AchievedConfig(desired_bonus=1000.0)
    chosen = []
    for config in (plain, with_bonus):
        goals, shop = begun(replace(config, n_candidates=50))
        for number in range(10):
            achieved = torch.tensor([[0.02 * number, 0.0], [0.02 * number + 0.01, 0.0]])
            shop.parts.get(ReplayPart).process(step(HERE, achieved, OWN, asked, RUNNING))
        found = []
        for _ in range(100):
            goals.process(step(HERE, HERE, OWN, asked, FIRST_ENDS))
            found.append(goals.pursued[0, 0].item())
        chosen.append(np.array(found))

    def near(found: Any) -> float:
        return float((found > 0.17).mean())  # 0.2 standard deviations are 0.012

    assert near(chosen[0]) < 0.3
    assert near(chosen[1]) > 0.9


def test_goals_that_are_not_allowed_are_pursued_only_for_want_of_others() -> None:
    allowed = ((0.0, -1.0), (0.15, 1.0))
    inside, shop = begun(MinQConfig(n_candidates=400, allowed=allowed), n_remembered=100)
    shop.parts.process(step(HERE, HERE, OWN, OWN, FIRST_ENDS))
    outside, other = begun(MinQConfig(n_candidates=50, allowed=((7.0, 7.0), (8.0, 8.0))), n_remembered=100)
    other.parts.process(step(HERE, HERE, OWN, OWN, FIRST_ENDS))

    assert inside.pursued[0].tolist() == pytest.approx([0.1, 0.0])
    assert outside.pursued[0, 0].item() <= 0.3

    with pytest.raises(InvalidInputError, match=r"3 numbers.*goals of 2"):
        begun(MinQConfig(allowed=((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))))


class Boundless(GoalScore):
    """Weighs goals beyond all bounds: one way for those within reach, the other way for all others."""

    def __init__(self, weight: float) -> None:
        self._weight = weight

    def log_weights(self, candidates: Candidates) -> Tensor:
        return torch.where(candidates.values >= -3.0, self._weight, -self._weight)


@pytest.mark.parametrize("weight", [-torch.inf, torch.inf, torch.nan])
def test_weights_without_bounds_neither_lead_out_of_reach_nor_to_what_is_not_allowed(weight: float) -> None:
    goals, shop = begun(AchievedConfig(allowed=((0.0, -1.0), (0.15, 1.0))), n_remembered=100)
    goals.score = Boundless(weight)

    for _ in range(20):
        shop.parts.process(step(HERE, HERE, OWN, OWN, FIRST_ENDS))
        assert 0.0 <= goals.pursued[0, 0].item() <= 0.15


def test_reached_goals_are_moved_on_in_the_direction_of_the_step() -> None:
    goals, shop = begun(MinQConfig(overshoot=1.0, initial_cutoff=-30.0, episode_steps=500), n_remembered=0)
    near = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    goals.begin(observed(HERE, near))

    shop.parts.process(step(near * 0.5, near, near, OWN, RUNNING))

    moved = goals.pursued - near
    along, across = moved.diagonal(), moved.fliplr().diagonal()
    assert across.tolist() == [0.0, 0.0]
    # The hardest of where it is, a step of 0.5 on, and up to one and a half of it on or back.
    assert bool((along.abs() >= 0.5).all())
    assert bool((along.abs() <= 0.75).all())
    assert along[0].abs() != along[1].abs()

    goals.begin(observed(HERE, near))
    shop.parts.process(step(near * 0.5, near * 0.6, near, OWN, RUNNING))
    assert torch.equal(goals.pursued, near)  # it was not reached


@pytest.mark.parametrize("kind", GOAL_SELECTIONS)
def test_a_saved_selection_goes_on_bit_for_bit(kind: str) -> None:
    config = small(kind, overshoot=0.5)
    first, second = (Walk(goal_parts(config.make(), seed=seed)) for seed in (1, 2))
    first.take(30)
    second.take(3)
    shops = [walk._shop for walk in (first, second)]
    saved, drawn = shops[0].parts.state_dict(), shops[0].generator.get_state()
    positions, walked = first._positions.clone(), first._generator.get_state()
    first.take(40)

    shops[1].parts.load_state_dict(saved)
    shops[1].generator.set_state(drawn)
    second._positions, second._clock = positions, 30
    second._generator.set_state(walked)
    second.take(40)

    assert torch.equal(torch.stack(first.history[30:]), torch.stack(second.history[3:]))
    assert first.goals.optimize(71) == second.goals.optimize(71)
    assert len({tuple(goal) for goal in first.history[-1].tolist() + first.history[40].tolist()}) > 2


def test_setting_up_again_keeps_what_is_pursued_and_learned() -> None:
    shop = goal_parts(small("intermediate_difficulty").make())
    walk = Walk(shop)
    walk.take(30)
    before = walk.goals.state_dict()

    shop.parts.set_up(shop)

    after = walk.goals.state_dict()
    assert torch.equal(after["pursued"], before["pursued"])
    weights = [state["score"]["network"]["layers.1.weight"] for state in (before, after)]
    assert torch.equal(*weights)


def test_other_numbers_of_environments_begin_anew() -> None:
    goals, _ = begun(small("mega"))

    seen = goals.relabel(observed(torch.zeros(5, 2), torch.full((5, 2), 3.0)))

    assert torch.equal(seen[DESIRED_GOAL], torch.full((5, 2), 3.0))
    extra = goals.extra_epsilon
    assert extra is not None
    assert extra.tolist() == [0.0] * 5


def test_it_needs_a_replay_a_rule_and_goals() -> None:
    with pytest.raises(InvalidInputError, match=r"'goals' \(GoalSelection\) needs a ReplayPart"):
        Parts({"goals": MEGAConfig().make(), "rule": KnownValues()})
    with pytest.raises(InvalidInputError, match=r"'goals' \(GoalSelection\) needs a UpdateRule"):
        Parts({"goals": MEGAConfig().make(), "replay": ReplayPart(ReplayConfig(capacity=10))})
    with pytest.raises(InvalidInputError, match=r"No goals are pursued yet; call begin\(observations\)"):
        _ = MEGAConfig().make().pursued
    shop = goal_parts(AchievedConfig().make())
    spec = replace(shop.spec, observation_space=spaces.Box(-1.0, 1.0, (2,), np.float32))
    with pytest.raises(SpaceError, match="The selection of goals needs observations with goals"):
        AchievedConfig().make().set_up(replace(shop, spec=spec))


def test_entropy_gain_and_intermediate_difficulty_choose_what_they_score_highest() -> None:
    for config in (EntropyGainConfig(n_candidates=30, n_points=500), IntermediateDifficultyConfig(n_candidates=30)):
        goals, shop = begun(config, n_remembered=40)
        seen: list[Tensor] = []
        weigh = goals.score.log_weights

        def noted(candidates: Any, weigh: Any = weigh, seen: list[Tensor] = seen) -> Tensor:
            weights: Tensor = weigh(candidates)
            is_in = torch.ones_like(weights) if not goals.score.uses_cutoff else candidates.values >= -3.0  # noqa: B023
            seen.append(candidates.goals[0, weights.masked_fill(is_in == 0, -torch.inf).argmax(1)[0]])
            return weights

        goals.score.log_weights = noted  # type: ignore[method-assign]  # to look over its shoulder
        shop.parts.process(step(HERE, HERE, OWN, OWN, FIRST_ENDS))

        assert torch.equal(goals.pursued[0], seen[0])
