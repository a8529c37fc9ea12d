"""Returns over several steps against a loop over recorded steps (acceptance check 3)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from rl_framework.data.replay_batch import ReplayBatch
from rl_framework.data.sampling.n_step import discount_powers, n_step_returns, one_step_returns
from rl_framework.data.sampling.replay_sampler import Endings, ReplaySampler
from tests.data.sampling.recordings import EveryRow, Recording, record

GAMMAS = (0.5, 0.9, 1.0)


@pytest.fixture(scope="module")
def recording() -> Recording:
    """2,000 episodes of 1 to 12 steps through a ring that holds a seventh of them, so that it wraps."""
    return record(episodes=2000, capacity=1811, n_envs=3)


def slow_return(
    recording: Recording, row: int, n_step: int, gammas: Sequence[float], *, endings: Endings = "environment"
) -> tuple[list[float], list[float], tuple[int, int]]:
    """Rewards, discounts, and the episode and step of the last step, transition by transition."""
    age, sums = recording.age(row), [0.0] * len(gammas)
    for power in range(n_step):
        here = recording.steps[age]
        sums = [total + gamma**power * here.reward for total, gamma in zip(sums, gammas, strict=True)]
        following = recording.following(age)
        if here.terminated and endings == "environment":
            return sums, [0.0] * len(gammas), (here.episode, here.step)
        if following is None or power == n_step - 1:
            return sums, [gamma ** (power + 1) for gamma in gammas], (here.episode, here.step)
        age = following
    raise AssertionError("A window has at least one step.")


def every_row(recording: Recording, n_step: int, gammas: Sequence[float], endings: Endings) -> ReplayBatch:
    sampler = ReplaySampler(recording.replay, EveryRow(recording.replay), gammas=gammas, n_step=n_step, endings=endings)
    return sampler.sample(len(recording.replay), torch.Generator())


@pytest.mark.parametrize("endings", ["environment", "never"])
@pytest.mark.parametrize("n_step", [1, 2, 3, 5])
def test_returns_equal_those_of_a_loop(recording: Recording, n_step: int, endings: Endings) -> None:
    batch = every_row(recording, n_step, GAMMAS, endings)

    slow = [slow_return(recording, row, n_step, GAMMAS, endings=endings) for row in range(len(recording.replay))]

    assert len(recording.steps) > 5 * recording.replay.capacity
    torch.testing.assert_close(batch.rewards, torch.tensor([each[0] for each in slow]), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(batch.discounts, torch.tensor([each[1] for each in slow]), atol=1e-6, rtol=1e-6)
    assert ((batch.discounts >= 0.0) & (batch.discounts <= 1.0)).all()
    lasts = torch.tensor([each[2] for each in slow]).float()
    assert torch.equal(batch.next_observations["observation"], lasts + torch.tensor([0.0, 1.0]))


@pytest.mark.parametrize("n_step", [1, 3])
def test_starts_are_those_of_the_rows(recording: Recording, n_step: int) -> None:
    batch = every_row(recording, n_step, (0.9,), "environment")
    steps = [recording.step(row) for row in range(len(recording.replay))]

    assert batch.rows.tolist() == list(range(len(recording.replay)))
    assert batch.observations["observation"].tolist() == [[each.episode, each.step] for each in steps]
    torch.testing.assert_close(batch.actions, torch.tensor([[each.reward / 10] for each in steps]))


def test_every_kind_of_window_occurs(recording: Recording) -> None:
    batch = every_row(recording, 5, (0.5,), "environment")
    discounts = set(batch.discounts.flatten().tolist())

    assert discounts == {0.0, *(0.5**steps for steps in range(1, 6))}


def test_windows_of_running_episodes_grow_with_them() -> None:
    recording = record(episodes=5, capacity=500, n_envs=2, longest=200, seed=4)
    running = [row for row in range(len(recording.replay)) if recording.following(recording.age(row)) is None]
    newest = torch.tensor([row for row in running if not recording.step(row).terminated])

    batch = every_row(recording, 4, (0.5,), "environment")

    assert batch.discounts[newest].flatten().tolist() == [0.5] * len(newest)


@pytest.mark.parametrize("ending", [False, True])
def test_single_steps_are_windows_of_one(ending: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    rewards, powers = torch.randn(64, generator=generator), discount_powers((0.3, 0.99), 1, torch.device("cpu"))
    ended = (torch.rand(64, generator=generator) < 0.5) & ending

    single = one_step_returns(rewards, ended, powers[1])
    window = n_step_returns(rewards.unsqueeze(1), ended.unsqueeze(1), torch.ones(64, 1, dtype=torch.bool), powers)

    assert torch.equal(single[0], window.rewards)
    assert torch.equal(single[1], window.discounts)
    assert (window.steps == 1).all()


def test_numbers_behind_an_ending_do_not_matter_even_if_they_are_none() -> None:
    rewards = torch.tensor([[1.0, 2.0, float("nan")], [1.0, float("inf"), 4.0]])
    ended = torch.tensor([[False, True, True], [False, False, True]])
    inside = torch.tensor([[True, True, True], [True, False, False]])

    returns = n_step_returns(rewards, ended, inside, discount_powers((0.5,), 3, torch.device("cpu")))

    assert returns.rewards.tolist() == [[2.0], [1.0]]
    assert returns.discounts.tolist() == [[0.0], [0.5]]
    assert returns.steps.tolist() == [2, 1]
