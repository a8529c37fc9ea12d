"""Rare episodes come more often, each of their steps as often as the others."""

from __future__ import annotations

import pytest
import torch
from gymnasium import spaces
from scipy.stats import chisquare, rankdata
from torch import Tensor

from rl_framework.data.replay_buffer import ReplayBuffer
from rl_framework.data.replay_columns import transition_columns
from rl_framework.data.sampling.trajectory_priorities import MixtureDensity, TrajectorySelection
from rl_framework.errors import InvalidInputError, SpaceError
from tests.data.sampling.recordings import ACTIONS, GOALS, OBSERVATIONS, Recording, record


@pytest.fixture(params=[5000, 211], ids=["filling", "wrapped"])
def recording(request: pytest.FixtureRequest) -> Recording:
    return record(episodes=60, capacity=request.param, n_envs=2)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rare_when_late(trajectories: Tensor) -> Tensor:
    """A density by which the later of two episodes is rarer; neighbours have the same."""
    return -(trajectories.view(len(trajectories), -1, 3)[:, 0, 1] // 2)


def whole_episodes(recording: Recording) -> dict[int, list[int]]:
    """The rows of each episode that is over, and stored from its first step on."""
    steps = {row: recording.step(row) for row in range(len(recording.replay))}
    rows: dict[int, list[int]] = {}
    for row in sorted(steps, key=lambda each: steps[each].step):
        rows.setdefault(steps[row].episode, []).append(row)
    return {episode: found for episode, found in rows.items() if steps[found[0]].step == 0 and steps[found[-1]].ended}


@pytest.mark.parametrize("temperature", [0.0, 1.0, 3.0])
def test_episodes_are_drawn_by_the_rank_of_their_rarity(recording: Recording, temperature: float) -> None:
    selection = TrajectorySelection(recording.replay, temperature=temperature, points=12)
    selection.refit(rare_when_late)
    whole = whole_episodes(recording)

    rows = selection.select(200_000, seeded()).rows

    ranks = rankdata([episode // 2 for episode in whole], method="dense")
    weights = ranks ** (1.0 / (temperature + 0.01))
    n_whole = sum(map(len, whole.values()))
    expected = torch.ones(len(recording.replay), dtype=torch.float64)
    for weight, members in zip(weights / weights.sum(), whole.values(), strict=True):
        expected[members] = weight / len(members) * n_whole
    assert 0 < n_whole < len(recording.replay)
    assert selection.priorities[: len(expected)].tolist() == pytest.approx(expected.tolist(), abs=1e-9)
    likely = expected / expected.sum() * len(rows) > 5
    counts = torch.bincount(rows, minlength=len(expected))[likely]
    assert chisquare(counts, expected[likely] / expected[likely].sum() * counts.sum()).pvalue > 1e-3


def test_a_density_sees_whole_episodes_as_points_along_them(recording: Recording) -> None:
    seen: list[Tensor] = []

    def density(trajectories: Tensor) -> Tensor:
        seen.append(trajectories)
        return torch.zeros(len(trajectories))

    TrajectorySelection(recording.replay, points=3).refit(density)

    whole = whole_episodes(recording)
    expected = {
        (episode, *(round(share * (len(rows) - 1)) + 1 for share in (0.0, 0.5, 1.0))) for episode, rows in whole.items()
    }
    assert {(int(each[1]), *each[2::3].int().tolist()) for each in seen[0]} == expected
    assert seen[0].shape == (len(whole), 9)


def test_with_a_fitted_mixture_an_episode_unlike_the_others_comes_most_often() -> None:
    replay, generator = ReplayBuffer(2000, transition_columns(OBSERVATIONS, ACTIONS, GOALS)), seeded()
    for episode in range(40):
        places = torch.randn(20, 3, generator=generator) * 0.1 + (5.0 if episode == 13 else 0.0)
        seen = {"observation": torch.zeros(20, 2), "achieved_goal": places, "desired_goal": places}
        entries = {"rewards": torch.zeros(20), "terminated": torch.zeros(20, dtype=torch.bool)}
        observations = {"observations": seen, "next_observations": seen, "environment_goals": places}
        replay.add_episode({**observations, "actions": torch.zeros(20, 1), **entries})
    selection = TrajectorySelection(replay, points=4)

    selection.refit(MixtureDensity(generator=generator, n_components=1))

    assert selection.priorities.argmax().item() // 20 == 13
    assert selection.priorities[:800].mean().item() == pytest.approx(1.0)


def test_new_rows_have_the_average_probability_until_the_next_fit() -> None:
    recording = record(episodes=30, capacity=60, n_envs=2)
    selection = TrajectorySelection(recording.replay, temperature=0.1)
    selection.refit(rare_when_late)
    average = selection.priorities.mean().item()

    selection.added(torch.tensor([4, 5]))

    assert average == pytest.approx(1.0)
    assert selection.priorities[4:6].tolist() == [1.0, 1.0]


def test_before_a_fit_all_stored_rows_are_alike() -> None:
    recording = record(episodes=3, capacity=100)

    selection = TrajectorySelection(recording.replay)

    stored = len(recording.replay)
    assert selection.priorities.tolist() == [1.0] * stored + [0.0] * (100 - stored)
    assert selection.select(50, seeded()).weights is None


def test_it_goes_on_as_if_it_had_not_been_interrupted(recording: Recording) -> None:
    first, second = (TrajectorySelection(recording.replay) for _ in range(2))
    first.refit(rare_when_late)

    second.load_state_dict(first.state_dict())

    rows = [each.select(100, seeded(5)).rows for each in (first, second)]
    assert torch.equal(*rows)


def test_what_it_cannot_do_is_refused() -> None:
    plain = ReplayBuffer(4, transition_columns(spaces.Box(-1.0, 1.0, (2,)), ACTIONS))
    with pytest.raises(SpaceError, match="needs observations with goals"):
        TrajectorySelection(plain)
    recording = record(episodes=1, capacity=20)
    with pytest.raises(InvalidInputError, match=r"got -1\.0 and 50"):
        TrajectorySelection(recording.replay, temperature=-1.0)
    state = TrajectorySelection(recording.replay).state_dict()
    with pytest.raises(InvalidInputError, match="those of 20 rows; this replay has 30"):
        TrajectorySelection(record(episodes=1, capacity=30).replay).load_state_dict(state)
    empty = ReplayBuffer(4, recording.replay.columns)
    with pytest.raises(InvalidInputError, match="the replay is empty"):
        TrajectorySelection(empty).select(1, torch.Generator())
