from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from rl_framework.errors import InvalidInputError
from rl_framework.functional.packed_episodes import (
    GOES_ON,
    TERMINATED,
    TRUNCATED,
    PackedSteps,
    pack_steps,
    packed_vtrace,
)
from rl_framework.functional.returns import VTrace
from tests.functional import slow_returns as slow

GAMMA, TRACE_LAMBDA, BARS = 0.9, 0.6, (2.0, 1.5)


@dataclass(frozen=True)
class Told:
    """An episode of T steps in plain numbers; values have T + 1 entries."""

    rewards: Tensor
    values: Tensor
    log_prob: Tensor
    behaviour: Tensor
    terminated: bool

    def __len__(self) -> int:
        return len(self.rewards)

    def row(self) -> slow.Row:
        ends = [False] * (len(self) - 1)
        return slow.Row(
            self.rewards.tolist(),
            self.values[:-1].tolist(),
            self.values[1:].tolist(),
            [*ends, self.terminated],
            [*ends, not self.terminated],
            (self.log_prob - self.behaviour).exp().tolist(),
        )

    def __getitem__(self, part: slice) -> Told:
        values = self.values[part.start : part.stop + 1]
        return Told(self.rewards[part], values, self.log_prob[part], self.behaviour[part], self.terminated)


@st.composite
def tellings(draw: st.DrawFn) -> list[Told]:
    """Some episodes of unequal lengths, float64."""
    episodes = []
    for length in draw(st.lists(st.integers(1, 9), min_size=1, max_size=5)):
        numbers = arrays.arrays(np.float64, (4, length + 1), elements=st.floats(-10.0, 10.0, width=16))
        rewards, values, log_prob, behaviour = torch.from_numpy(draw(numbers)).unbind(0)
        episodes.append(Told(rewards[1:], values, log_prob[1:] / 10, behaviour[1:] / 10, draw(st.booleans())))
    return episodes


def ends_of(episodes: list[Told]) -> list[int]:
    return [TERMINATED if episode.terminated else TRUNCATED for episode in episodes]


def joined(episodes: list[Told], name: str) -> Tensor:
    return torch.cat([getattr(episode, name) for episode in episodes])


def traced(
    episodes: list[Told],
    ends: list[int] | None = None,
    valid: Tensor | None = None,
    gamma: float = GAMMA,
    trace_lambda: float = TRACE_LAMBDA,
) -> VTrace:
    packed = pack_steps([len(episode) for episode in episodes], ends or ends_of(episodes), valid)
    return packed_vtrace(
        packed,
        packed.earned(joined(episodes, "rewards")),
        joined(episodes, "values"),
        log_prob=joined(episodes, "log_prob")[packed.steps],
        behaviour_log_prob=joined(episodes, "behaviour")[packed.steps],
        gamma=gamma,
        rho_bar=BARS[0],
        c_bar=BARS[1],
        trace_lambda=trace_lambda,
    )


def told(rewards: list[float], value: float, *, terminated: bool) -> Told:
    steps = torch.zeros(len(rewards), dtype=torch.float64)
    values = torch.full((len(rewards) + 1,), value, dtype=torch.float64)
    return Told(torch.tensor(rewards, dtype=torch.float64), values, steps, steps, terminated)


@settings(max_examples=60)
@given(tellings())
def test_packed_episodes_are_worth_what_the_paper_says_of_each(episodes: list[Told]) -> None:
    found = traced(episodes)
    rows = [(episode.row(), step) for episode in episodes for step in range(len(episode))]
    values = [slow.vtrace_value(row, step, GAMMA, BARS, TRACE_LAMBDA) for row, step in rows]
    advantages = [slow.vtrace_advantage(row, step, GAMMA, BARS, TRACE_LAMBDA) for row, step in rows]
    torch.testing.assert_close(found.values, torch.tensor(values, dtype=torch.float64), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found.advantages, torch.tensor(advantages, dtype=torch.float64), rtol=1e-10, atol=1e-10)


@settings(max_examples=40)
@given(tellings())
def test_an_episode_is_worth_the_same_whatever_lies_beside_it(episodes: list[Told]) -> None:
    together = traced(episodes)
    alone = [traced([episode]) for episode in episodes]
    for name in ("values", "advantages"):
        torch.testing.assert_close(getattr(together, name), torch.cat([getattr(one, name) for one in alone]))


@settings(max_examples=40)
@given(tellings(), st.integers(1, 4))
def test_episodes_in_pieces_are_worth_the_same(episodes: list[Told], size: int) -> None:
    pieces, ends = [], []
    for episode, end in zip(episodes, ends_of(episodes), strict=True):
        cuts = [slice(at, min(at + size, len(episode))) for at in range(0, len(episode), size)]
        pieces += [episode[cut] for cut in cuts]
        ends += [GOES_ON] * (len(cuts) - 1) + [end]
    for name in ("values", "advantages"):
        torch.testing.assert_close(getattr(traced(pieces, ends), name), getattr(traced(episodes), name))


@settings(max_examples=60)
@given(tellings(), st.data())
def test_steps_that_do_not_count_are_as_if_they_were_not_there(episodes: list[Told], data: st.DataObject) -> None:
    padded, masks = [], []
    for episode in episodes:
        before = data.draw(st.lists(st.integers(0, len(episode)), max_size=4))
        parts = [_padded(numbers, before) for numbers in (episode.rewards, episode.log_prob, episode.behaviour)]
        values = torch.cat([_padded(episode.values[:-1], before, fill=7.0, at_end=episode.values[-1:])])
        padded.append(Told(parts[0], values, parts[1], parts[2], episode.terminated))
        masks.append(_padded(torch.ones(len(episode), dtype=torch.float64), before) > 0)
    found, plain = traced(padded, valid=torch.cat(masks)), traced(episodes)
    for name in ("values", "advantages"):
        torch.testing.assert_close(getattr(found, name), getattr(plain, name))


def _padded(numbers: Tensor, before: list[int], fill: float = 0.0, at_end: Tensor | None = None) -> Tensor:
    """With an entry put in before each of the given steps; behind the last step the padding follows what is there."""
    n_steps, parts = len(numbers), []
    for step in range(n_steps):
        parts += [torch.full((before.count(step),), fill, dtype=numbers.dtype), numbers[step : step + 1]]
    last = torch.full((before.count(n_steps),), fill, dtype=numbers.dtype)
    return torch.cat([*parts, *([] if at_end is None else [at_end]), last])


def test_rewards_of_steps_that_do_not_count_go_to_the_step_before_them() -> None:
    valid = torch.tensor([False, True, False, True, False])
    packed = pack_steps([2, 3], [TERMINATED, TERMINATED], valid)
    assert packed.steps.tolist() == [1, 3]
    assert packed.earned(torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])).tolist() == [2.0, 24.0]


def test_episodes_of_which_nothing_counts_leave_nothing() -> None:
    packed = pack_steps([2, 1], [TERMINATED, TRUNCATED], torch.zeros(3, dtype=torch.bool))
    nothing = torch.zeros(0)
    assert len(packed) == 0
    assert packed.earned(torch.ones(3)).tolist() == []
    assert (
        len(
            packed_vtrace(
                packed, nothing, torch.ones(5), log_prob=nothing, behaviour_log_prob=nothing, gamma=0.9
            ).values
        )
        == 0
    )


def test_golden_values_without_a_value_function() -> None:
    found = traced([told([1.0] * 5, 0.0, terminated=True)], gamma=1.0, trace_lambda=1.0)
    assert found.advantages.tolist() == [5.0, 4.0, 3.0, 2.0, 1.0]


def test_golden_values_with_a_value_function() -> None:
    found = traced([told([1.0] * 5, 3.0, terminated=True)], gamma=1.0, trace_lambda=0.5)
    assert found.advantages.tolist() == [2.5, 2.0, 1.0, -1.0, -2.0]
    assert found.values.tolist() == [4.75, 4.5, 4.0, 3.0, 1.0]


def test_truncated_episodes_of_any_length_are_bootstrapped() -> None:
    episodes = [told([1.0] * length, 10.0, terminated=False) for length in (2, 7, 1)]
    found = traced(episodes, gamma=0.9)
    torch.testing.assert_close(found.advantages, torch.zeros(10, dtype=torch.float64))
    torch.testing.assert_close(found.values, torch.full((10,), 10.0, dtype=torch.float64))


@settings(max_examples=40)
@given(tellings(), st.floats(0.1, 1.0))
def test_with_equal_policies_it_is_generalised_advantage_estimation(episodes: list[Told], trace_lambda: float) -> None:
    on_policy = [replace(episode, behaviour=episode.log_prob) for episode in episodes]
    found = traced(on_policy, trace_lambda=trace_lambda)
    gae, errors = [], []
    for row in (episode.row() for episode in on_policy):
        for step in range(len(row.rewards)):
            gae.append(slow.generalized_advantage(row, step, GAMMA, trace_lambda))
            errors.append(slow.generalized_advantage(row, step, GAMMA, 0.0))
    expected, error = torch.tensor(gae, dtype=torch.float64), torch.tensor(errors, dtype=torch.float64)
    values = torch.cat([episode.values[:-1] for episode in on_policy])
    torch.testing.assert_close(found.values - values, expected)
    torch.testing.assert_close(found.advantages, error + (expected - error) / trace_lambda)


@pytest.mark.parametrize(
    ("lengths", "ends"), [([2], [GOES_ON]), ([2, 0], [TERMINATED, TERMINATED]), ([2], [TERMINATED, TERMINATED])]
)
def test_pieces_that_make_no_sense_are_refused(lengths: list[int], ends: list[int]) -> None:
    with pytest.raises(InvalidInputError, match="lengths from 1 and as many ends"):
        pack_steps(lengths, ends)


def test_steps_lie_beside_their_observations() -> None:
    packed = pack_steps([2, 1, 3], [TERMINATED, GOES_ON, TRUNCATED])
    assert isinstance(packed, PackedSteps)
    assert packed.before.tolist() == [0, 1, 3, 5, 6, 7]
    assert packed.after.tolist() == [1, 2, 4, 6, 7, 8]
    assert packed.terminated.tolist() == [False, True, False, False, False, False]
    assert packed.truncated.tolist() == [False, False, False, False, False, True]
