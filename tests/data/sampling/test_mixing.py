"""Minibatches whose parts come from different replays."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_framework.data.sampling.hindsight import Hindsight
from rl_framework.data.sampling.mixing import MixedSampler
from rl_framework.data.sampling.prioritized import PrioritizedSelection
from rl_framework.data.sampling.replay_sampler import ReplaySampler
from rl_framework.data.sampling.uniform import UniformSelection
from rl_framework.errors import InvalidInputError
from tests.data.sampling.recordings import Recording, record, reward


@pytest.fixture(scope="module")
def own() -> Recording:
    return record(episodes=20, capacity=80, seed=1)


@pytest.fixture(scope="module")
def demonstrated() -> Recording:
    return record(episodes=10, capacity=90, n_envs=1, seed=2)


def uniform(recording: Recording) -> ReplaySampler:
    relabel = Hindsight(mixture="future_4", reward=reward, warm_up=0)
    return ReplaySampler(recording.replay, UniformSelection(recording.replay), gammas=(0.5, 0.9), relabel=relabel)


def prioritized(recording: Recording) -> tuple[ReplaySampler, PrioritizedSelection]:
    selection = PrioritizedSelection(recording.replay, alpha=1.0, epsilon=1e-9)
    return ReplaySampler(recording.replay, selection, gammas=(0.5, 0.9)), selection


@given(
    st.lists(st.floats(0.0, 1.0), min_size=1, max_size=5).filter(lambda parts: sum(parts) > 0.01), st.integers(1, 600)
)
def test_counts_are_the_shares_to_within_one(parts: list[int], n: int) -> None:
    shares = [part / sum(parts) for part in parts]
    sampler = uniform(record(episodes=1, capacity=20, n_envs=1))

    counts = MixedSampler([sampler] * len(shares), shares).counts(n)

    assert sum(counts) == n
    assert all(count >= 0 and abs(count - share * n) <= 1.0 + 1e-6 for count, share in zip(counts, shares, strict=True))


def test_parts_are_those_of_their_replays_in_order(own: Recording, demonstrated: Recording) -> None:
    mixed = MixedSampler([uniform(own), uniform(demonstrated)], [0.75, 0.25])

    batch = mixed.sample(64, torch.Generator().manual_seed(0))

    generator = torch.Generator().manual_seed(0)
    parts = [uniform(own).sample(48, generator), uniform(demonstrated).sample(16, generator)]
    for name in ("observations", "actions", "rewards", "next_observations", "discounts", "rows"):
        whole = getattr(batch, name)
        pieces = [getattr(part, name) for part in parts]
        if isinstance(whole, dict):
            assert all(torch.equal(whole[key], torch.cat([piece[key] for piece in pieces])) for key in whole)
        else:
            assert torch.equal(whole, torch.cat(pieces))
    assert batch.weights is None


def test_what_is_drawn_evenly_counts_in_full_beside_priorities(own: Recording, demonstrated: Recording) -> None:
    first, selection = prioritized(own)
    selection.update_priorities(torch.arange(80), torch.linspace(0.1, 5.0, 80))

    batch = MixedSampler([first, uniform(demonstrated)], [0.5, 0.5]).sample(60, torch.Generator().manual_seed(0))

    assert batch.weights is not None
    assert (batch.weights[30:] == 1.0).all()
    assert batch.weights[:30].min() < 0.9


def test_errors_go_to_the_replay_of_their_rows(own: Recording, demonstrated: Recording) -> None:
    (first, own_selection), (second, other_selection) = prioritized(own), prioritized(demonstrated)
    mixed = MixedSampler([first, second], [0.5, 0.5])

    mixed.update_priorities(torch.tensor([3, 4, 3, 5]), torch.tensor([2.0, -3.0, 7.0, 8.0]))

    assert own_selection.priorities[3:6].tolist() == pytest.approx([2.0, 3.0, 1.0])
    assert other_selection.priorities[3:6].tolist() == pytest.approx([7.0, 1.0, 8.0])


def test_new_rows_belong_to_the_first_replay_and_states_to_each(own: Recording, demonstrated: Recording) -> None:
    (first, own_selection), (second, other_selection) = prioritized(own), prioritized(demonstrated)
    mixed = MixedSampler([first, second], [0.5, 0.5])
    mixed.update_priorities(torch.tensor([0, 1]), torch.tensor([5.0, 9.0]))
    mixed.added(torch.tensor([7]))
    (third, third_selection), (fourth, fourth_selection) = prioritized(own), prioritized(demonstrated)

    MixedSampler([third, fourth], [0.5, 0.5]).load_state_dict(mixed.state_dict())

    assert own_selection.priorities[7].item() == pytest.approx(5.0)
    assert other_selection.priorities[7].item() == 1.0
    assert torch.equal(third_selection.priorities, own_selection.priorities)
    assert torch.equal(fourth_selection.priorities, other_selection.priorities)


def test_a_sampler_without_a_share_is_not_asked(own: Recording) -> None:
    empty = record(episodes=0, capacity=5)
    assert len(empty.replay) == 0

    batch = MixedSampler([uniform(own), uniform(empty)], [1.0, 0.0]).sample(8, torch.Generator().manual_seed(0))

    assert batch.rewards.shape == (8, 2)


@pytest.mark.parametrize("shares", [[1.0], [0.5, 0.6], [1.5, -0.5], []])
def test_shares_that_do_not_fit_are_refused(own: Recording, shares: list[float]) -> None:
    with pytest.raises(InvalidInputError, match="share"):
        MixedSampler([uniform(own), uniform(own)], shares)
