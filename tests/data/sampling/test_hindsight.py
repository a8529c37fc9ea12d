"""Which goals are given in hindsight, how often, and what they pay (acceptance check 4)."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from gymnasium import spaces
from scipy.stats import chisquare
from torch import Tensor

from rl_framework.core.goals import GoalReward
from rl_framework.data.replay_buffer import ReplayBuffer
from rl_framework.data.replay_columns import transition_columns
from rl_framework.data.sampling.goal_mixture import GoalMixture
from rl_framework.data.sampling.hindsight import Hindsight
from rl_framework.data.sampling.replay_sampler import Endings, ReplaySampler
from rl_framework.data.sampling.uniform import UniformSelection
from rl_framework.errors import InvalidInputError, SpaceError
from tests.data.sampling.recordings import (
    ACHIEVED,
    ACTIONS,
    ASKED,
    PURSUED,
    EveryRow,
    Recording,
    distance_reward,
    record,
    reward,
)

STRINGS = ["future_4", "futureactual_2_2", "futureachieved_3_1", "rfaa_1_4_3_2", "rfaab_1_4_3_1_1", "none"]
N_DRAWS = 100_000


@pytest.fixture(scope="module", params=["filling", "wrapped"])
def recording(request: pytest.FixtureRequest) -> Recording:
    """Episodes of 1 to 12 steps, two of which still run; in a ring that has room, or has wrapped many times."""
    return record(episodes=400, capacity=20_000 if request.param == "filling" else 611, n_envs=3)


class Drawn:
    """Many rows with their goals, as the tests judge them."""

    def __init__(self, recording: Recording, mixture: str, *, warm_up: int = 0, seed: int = 0) -> None:
        self.recording, self.mixture = recording, GoalMixture.parse(mixture)
        relabel = Hindsight(mixture=mixture, reward=reward, warm_up=warm_up)
        sampler = ReplaySampler(recording.replay, UniformSelection(recording.replay), gammas=(0.9,), relabel=relabel)
        self.batch = sampler.sample(N_DRAWS, torch.Generator().manual_seed(seed))
        self.goals = self.batch.observations["desired_goal"]
        steps = [recording.step(row) for row in range(len(recording.replay))]
        own = torch.tensor([(each.episode, each.step) for each in steps])[self.batch.rows]
        self.kind, self.episode, self.step = self.goals.long().unbind(1)
        self.offset = self.step - 1 - own[:, 1]
        self.is_own_episode = self.episode == own[:, 0]
        self.is_own = self.is_own_episode & (self.step == own[:, 1])

    def classes(self) -> dict[str, Tensor]:
        """What can be told of a goal by looking at it."""
        is_later = (self.kind == ACHIEVED) & self.is_own_episode & (self.offset >= 0)
        return {
            "pursued here": (self.kind == PURSUED) & self.is_own,
            "pursued elsewhere": (self.kind == PURSUED) & ~self.is_own,
            "achieved from here on": is_later,
            "achieved elsewhere": (self.kind == ACHIEVED) & ~is_later,
            "asked for": self.kind == ASKED,
        }

    def expected(self, mixture: GoalMixture) -> dict[str, float]:
        """How many of each class the mixture promises; goals from anywhere may be from here by chance."""
        stored = len(self.recording.replay)
        later = torch.tensor([len(self.recording.later(self.recording.age(row))) for row in range(stored)])
        by_chance = (later[self.batch.rows] / stored).mean().item()
        shares = {
            "pursued here": mixture.real + mixture.behavioural / stored,
            "pursued elsewhere": mixture.behavioural * (1.0 - 1.0 / stored),
            "achieved from here on": mixture.future + mixture.achieved * by_chance,
            "achieved elsewhere": mixture.achieved * (1.0 - by_chance),
            "asked for": mixture.actual,
        }
        return {name: share * N_DRAWS for name, share in shares.items()}


def assert_frequencies(found: dict[str, int], expected: dict[str, float]) -> None:
    """Chi-square; what should never occur must not."""
    possible = [name for name, count in expected.items() if count > 0.0]
    assert {name for name, count in found.items() if count > 0} <= set(possible)
    if len(possible) > 1:
        assert chisquare([found[name] for name in possible], [expected[name] for name in possible]).pvalue > 1e-3


@pytest.mark.parametrize("mixture", STRINGS)
def test_sources_have_the_shares_of_the_mixture(recording: Recording, mixture: str) -> None:
    drawn = Drawn(recording, mixture)

    found = {name: int(members.sum()) for name, members in drawn.classes().items()}

    assert sum(found.values()) == N_DRAWS
    assert_frequencies(found, drawn.expected(drawn.mixture))


@pytest.mark.parametrize("mixture", STRINGS[:-1])
def test_goals_are_future_ones_up_to_the_end_of_the_warm_up(recording: Recording, mixture: str) -> None:
    total = recording.replay.total

    during = Drawn(recording, mixture, warm_up=total)
    after = Drawn(recording, mixture, warm_up=total - 1)

    assert during.classes()["achieved from here on"].all()
    found = {name: int(members.sum()) for name, members in after.classes().items()}
    assert_frequencies(found, after.expected(after.mixture))


def test_none_relabels_nothing_and_has_no_warm_up(recording: Recording) -> None:
    drawn = Drawn(recording, "none", warm_up=1_000_000)

    assert drawn.classes()["pursued here"].all()


def test_future_goals_are_evenly_spread_over_the_rest_of_the_episode(recording: Recording) -> None:
    drawn = Drawn(recording, "future_4")
    later = drawn.classes()["achieved from here on"]
    rests = [len(recording.later(recording.age(row))) for row in range(len(recording.replay))]
    remaining = torch.tensor(rests)[drawn.batch.rows]

    assert (drawn.offset[later] < remaining[later]).all()
    for rest in range(2, 13):
        counts = Counter(drawn.offset[later & (remaining == rest)].tolist())
        assert set(counts) <= set(range(rest))
        assert chisquare([counts[offset] for offset in range(rest)]).pvalue > 1e-3


@pytest.mark.parametrize(
    ("mixture", "kind"), [("rfaa_0_0_0_1", ACHIEVED), ("rfaa_0_0_1_0", ASKED), ("rfaab_0_0_0_0_1", PURSUED)]
)
def test_goals_from_anywhere_are_evenly_spread_over_all_stored_steps(
    recording: Recording, mixture: str, kind: float
) -> None:
    drawn = Drawn(recording, mixture)
    stored = [recording.step(row) for row in range(len(recording.replay))]
    ahead = int(kind == ACHIEVED)

    counts = Counter(zip(drawn.episode.tolist(), drawn.step.tolist(), strict=True))

    places = [(each.episode, each.step + ahead) for each in stored]
    assert (drawn.kind == kind).all()
    assert set(counts) <= set(places)
    assert chisquare([counts[place] for place in places]).pvalue > 1e-3
    assert abs(torch.corrcoef(torch.stack([drawn.episode.double(), drawn.batch.rows.double()]))[0, 1]) < 0.02


@pytest.mark.parametrize("mixture", STRINGS)
def test_rewards_are_those_of_the_new_goals_row_by_row(recording: Recording, mixture: str) -> None:
    drawn = Drawn(recording, mixture)
    achieved = drawn.batch.next_observations["achieved_goal"]

    assert torch.equal(drawn.batch.rewards[:, 0] == 0.0, (achieved == drawn.goals).all(1))
    assert torch.equal(drawn.batch.rewards[:, 0] == -1.0, (achieved != drawn.goals).any(1))
    assert torch.equal(drawn.batch.next_observations["desired_goal"], drawn.goals)
    steps = [recording.step(row) for row in range(len(recording.replay))]
    places = torch.tensor([(0, each.episode, each.step) for each in steps]).float()[drawn.batch.rows]
    assert torch.equal(drawn.batch.observations["achieved_goal"], places)


def test_what_is_stored_stays_as_it_was(recording: Recording) -> None:
    every = torch.arange(len(recording.replay))
    before = recording.replay.read(list(recording.replay.columns), every)

    Drawn(recording, "rfaab_1_4_3_1_1")

    after = recording.replay.read(list(recording.replay.columns), every)
    torch.testing.assert_close(after, before, rtol=0.0, atol=0.0)


def slow_windows(
    recording: Recording,
    goals: Tensor,
    pay: GoalReward,
    *,
    n_step: int,
    gammas: tuple[float, ...],
    endings: Endings,
) -> tuple[Tensor, Tensor, Tensor]:
    """Rewards, discounts and last achieved goals of every row under its new goal, step by step."""
    found: tuple[list[list[float]], list[list[float]], list[list[float]]] = ([], [], [])
    for row, goal in enumerate(goals):
        sums, factors = [0.0] * len(gammas), [1.0] * len(gammas)
        achieved = goal
        for age in recording.later(recording.age(row))[:n_step]:
            here = recording.steps[age]
            achieved = torch.tensor([ACHIEVED, here.episode, here.step + 1])
            earned = pay(achieved.unsqueeze(0), goal.unsqueeze(0)).item()
            sums = [total + factor * earned for total, factor in zip(sums, factors, strict=True)]
            factors = [factor * gamma for factor, gamma in zip(factors, gammas, strict=True)]
            is_over = {"environment": here.terminated, "never": False, "first_visit": earned == 0.0}[endings]
            if is_over:
                factors = [0.0] * len(gammas)
                break
        for column, values in zip(found, (sums, factors, achieved.tolist()), strict=True):
            column.append(values)
    return torch.tensor(found[0]), torch.tensor(found[1]), torch.tensor(found[2])


@pytest.mark.parametrize("pay", [reward, distance_reward])
@pytest.mark.parametrize("endings", ["environment", "never", "first_visit"])
@pytest.mark.parametrize("n_step", [1, 3])
def test_windows_are_paid_and_ended_under_the_new_goals(
    recording: Recording, n_step: int, endings: Endings, pay: GoalReward
) -> None:
    replay, gammas = recording.replay, (0.5, 0.9)
    relabel = Hindsight(mixture="futureactual_4_1", reward=pay, warm_up=0)
    sampler = ReplaySampler(replay, EveryRow(replay), gammas=gammas, n_step=n_step, relabel=relabel, endings=endings)

    batch = sampler.sample(len(replay), torch.Generator().manual_seed(1))

    slow = slow_windows(
        recording, batch.observations["desired_goal"], pay, n_step=n_step, gammas=gammas, endings=endings
    )
    torch.testing.assert_close(batch.rewards, slow[0], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(batch.discounts, slow[1], atol=1e-6, rtol=1e-6)
    assert torch.equal(batch.next_observations["achieved_goal"], slow[2])
    assert (batch.discounts == 0.0).any() == (endings != "never")


@pytest.mark.parametrize("n_step", [1, 4])
def test_shaping_pays_for_getting_nearer_and_nothing_for_a_state_behind_an_ending(n_step: int) -> None:
    recording = record(episodes=100, capacity=300)
    batches = []
    for shaping in (0.0, 0.7):
        relabel = Hindsight(mixture="future_4", reward=reward, warm_up=0, shaping=shaping)
        sampler = ReplaySampler(
            recording.replay,
            EveryRow(recording.replay),
            gammas=(0.5, 0.9),
            n_step=n_step,
            relabel=relabel,
            endings="first_visit",
        )
        batches.append(sampler.sample(len(recording.replay), torch.Generator().manual_seed(1)))
    plain, shaped = batches
    goals = plain.observations["desired_goal"]
    before = -(plain.observations["achieved_goal"] - goals).norm(dim=1)
    after = -(plain.next_observations["achieved_goal"] - goals).norm(dim=1)

    expected = torch.stack([0.7 * (plain.discounts[:, k] * after - before) for k in range(2)], 1)

    torch.testing.assert_close(shaped.rewards - plain.rewards, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(shaped.discounts, plain.discounts)
    assert (expected != 0.0).any()


def whole_reward(achieved: Tensor, desired: Tensor) -> Tensor:
    """0 where all numbers of goals of any shape agree, -1 elsewhere."""
    return -(achieved != desired).flatten(1).any(1).float()


def test_goals_of_several_dimensions_are_relabelled_whole() -> None:
    goal_space = spaces.Box(-1.0, 1.0, (2, 2))
    observations = spaces.Dict(
        {"observation": spaces.Box(-1.0, 1.0, (1,)), "achieved_goal": goal_space, "desired_goal": goal_space}
    )
    replay = ReplayBuffer(64, transition_columns(observations, ACTIONS, goal_space))
    generator = torch.Generator().manual_seed(0)
    shapes = {"observation": (1,), "achieved_goal": (2, 2), "desired_goal": (2, 2)}
    seen = {key: torch.rand(40, *shape, generator=generator) for key, shape in shapes.items()}
    entries = {
        "observations": seen,
        "next_observations": seen,
        "actions": torch.zeros(40, 1),
        "rewards": torch.zeros(40),
        "terminated": torch.zeros(40, dtype=torch.bool),
        "environment_goals": seen["desired_goal"],
    }
    replay.add_episode(entries)
    relabel = Hindsight(mixture="rfaab_1_1_1_1_1", reward=whole_reward, warm_up=0)

    batch = ReplaySampler(replay, UniformSelection(replay), gammas=(0.9,), relabel=relabel).sample(500, generator)

    stored = {tuple(each) for key in ("achieved_goal", "desired_goal") for each in seen[key].flatten(1).tolist()}
    assert batch.observations["desired_goal"].shape == (500, 2, 2)
    assert {tuple(each) for each in batch.observations["desired_goal"].flatten(1).tolist()} <= stored


def test_observations_without_goals_are_refused() -> None:
    replay = ReplayBuffer(8, transition_columns(spaces.Box(-1.0, 1.0, (2,)), ACTIONS))
    with pytest.raises(SpaceError, match="Hindsight needs observations with goals"):
        ReplaySampler(
            replay, UniformSelection(replay), gammas=(0.9,), relabel=Hindsight(mixture="future_4", reward=reward)
        )


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"got -1 and 0\.0"):
        Hindsight(mixture="future_4", reward=reward, warm_up=-1)
    with pytest.raises(InvalidInputError, match="'futur_4'"):
        Hindsight(mixture="futur_4", reward=reward)
