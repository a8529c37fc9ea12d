from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rl_framework.core.reports import EpisodeSummary
from rl_framework.rollouts.episode_totals import ended_episodes, running_totals

CASES = st.tuples(st.integers(0, 10_000), st.integers(1, 9), st.integers(1, 5), st.sampled_from([0.0, 0.1, 0.5, 1.0]))


def case(seed: int, n_steps: int, n_rows: int, share: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rewards = torch.randn(n_steps, n_rows, generator=generator)
    ended = torch.rand(n_steps, n_rows, generator=generator) < share
    returns = torch.randn(n_rows, generator=generator).double()
    return rewards, ended, returns, torch.randint(0, 50, (n_rows,), generator=generator)


def counted(
    rewards: Tensor, ended: Tensor, returns: Tensor, lengths: Tensor
) -> tuple[list[EpisodeSummary], list[float], list[int]]:
    """Step by step, as a person would count."""
    totals, steps, episodes = returns.tolist(), lengths.tolist(), []
    for step in range(len(rewards)):
        for row in range(rewards.shape[1]):
            totals[row] += float(rewards[step, row])
            steps[row] += 1
            if ended[step, row]:
                episodes.append(EpisodeSummary(row=row, total_reward=totals[row], length=steps[row]))
                totals[row], steps[row] = 0.0, 0
    return episodes, totals, steps


@given(CASES)
def test_episodes_are_those_that_one_counts(numbers: tuple[int, int, int, float]) -> None:
    columns = case(*numbers)
    expected, _, _ = counted(*columns)
    found = ended_episodes(*columns)

    assert [(one.row, one.length) for one in found] == [(one.row, one.length) for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert abs(one.total_reward - other.total_reward) < 1e-9


@given(CASES)
def test_episodes_end_in_success_where_their_last_step_says_so(numbers: tuple[int, int, int, float]) -> None:
    rewards, ended, *before = case(*numbers)
    successes = torch.rand(ended.shape, generator=torch.Generator().manual_seed(numbers[0])) < 0.5
    found = ended_episodes(rewards, ended, *before, successes=successes)

    assert [one.success for one in found] == successes[ended].tolist()
    assert [one.success for one in found[1:]] == successes[ended].tolist()[1:]
    assert {one.success for one in ended_episodes(rewards, ended, *before)} <= {None}


@given(CASES)
def test_totals_are_those_that_one_counts(numbers: tuple[int, int, int, float]) -> None:
    columns = case(*numbers)
    _, totals, steps = counted(*columns)
    returns, lengths = running_totals(*columns)

    assert lengths.tolist() == steps
    assert torch.allclose(returns, torch.tensor(totals, dtype=torch.float64), atol=1e-9)
    assert (returns.dtype, lengths.dtype) == (torch.float64, torch.int64)


def test_long_episodes_lose_no_digits() -> None:
    rewards = torch.full((1000, 1), 0.1)
    ended = torch.zeros(1000, 1, dtype=torch.bool)
    ended[-1] = True
    (episode,) = ended_episodes(rewards, ended, torch.tensor([1e6], dtype=torch.float64), torch.tensor([10**7]))

    assert abs(episode.total_reward - (1e6 + 1000 * float(rewards[0, 0]))) < 1e-6
    assert episode.length == 10**7 + 1000
