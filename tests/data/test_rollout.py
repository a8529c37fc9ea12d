from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_framework.core.reports import EpisodeSummary
from rl_framework.data import rollout as rollout_module
from rl_framework.data.episode_table import EpisodeTable
from rl_framework.data.rollout import Position, Rollout, concatenate, concatenate_rows
from rl_framework.errors import InvalidInputError
from tests.data.rollouts import assert_same, make_rollout, places

SEEDS = st.integers(0, 10_000)


def position(rollout: Rollout) -> Position:
    n = rollout.n_rows
    return Position(
        observations=torch.zeros(n, 3),
        state={"h": torch.ones(n, 2, requires_grad=True)},
        starts=torch.zeros(n, dtype=torch.bool),
        episode_returns=torch.zeros(n, dtype=torch.float64),
        episode_lengths=torch.zeros(n, dtype=torch.int64),
    )


def global_generators() -> list[str]:
    numpy_state: Any = np.random.get_state()  # noqa: NPY002  (it is the global one that must not change)
    return [str(random.getstate()), str(numpy_state[1].tolist()), str(torch.get_rng_state().tolist())]


# ------------------------------------------------------------------------------------------ construction


def test_columns_of_other_lengths_are_refused_by_name() -> None:
    whole = make_rollout(6, 4)

    with pytest.raises(InvalidInputError, match=r"log_prob .*\[5, 4\].*\[6, 4\]"):
        replace(whole, log_prob=torch.zeros(5, 4))
    with pytest.raises(InvalidInputError, match=r"observations .*\[6, 3, 2\]"):
        replace(whole, observations={"place": torch.zeros(6, 3, 2)})
    with pytest.raises(InvalidInputError, match=r"advantages .*\[6\]"):
        whole.with_extras(advantages=torch.zeros(6))


@pytest.mark.parametrize("shape", [(6,), (0, 4), (6, 0)])
def test_rewards_have_steps_and_rows(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError, match=r"\[T, B\]"):
        replace(make_rollout(), rewards=torch.zeros(shape))


def test_a_rollout_is_a_value() -> None:
    whole = make_rollout()
    carried = {"weight": whole.extras["weight"]}
    other = replace(whole, extras=carried)
    carried["late"] = torch.zeros(1)

    with pytest.raises(FrozenInstanceError):
        whole.rewards = torch.zeros(6, 4)  # type: ignore[misc]  # this is what must fail
    assert set(other.extras) == {"weight"}
    assert set(whole.with_extras(late=whole.rewards).extras) == {"weight", "features", "late"}
    assert set(whole.extras) == {"weight", "features"}


# ---------------------------------------------------------------------------------------------- in time


@pytest.mark.parametrize(
    ("part", "steps"),
    [
        (slice(2, 5), [2, 3, 4]),
        (slice(None, -1), [0, 1, 2, 3, 4]),
        (slice(-2, None), [4, 5]),
        (slice(4, 100), [4, 5]),
        (3, [3]),
        (-1, [5]),
        (slice(None), [0, 1, 2, 3, 4, 5]),
    ],
)
def test_pieces_in_time_are_views(part: slice | int, steps: list[int]) -> None:
    whole = make_rollout(6, 4)
    piece = whole[part]

    assert len(piece) == len(steps)
    for (name, column), (_, parent) in zip(piece.named_columns(), whole.named_columns(), strict=True):
        assert torch.equal(column, parent[steps]), name
        assert column.data_ptr() == parent[steps[0]].data_ptr()


@pytest.mark.parametrize("part", [6, -7, slice(3, 3), slice(4, 2), slice(0, 6, 2), slice(None, None, -1)])
def test_pieces_that_there_are_not(part: slice | int) -> None:
    with pytest.raises(InvalidInputError, match="6 steps"):
        make_rollout(6, 4)[part]


def test_iteration_gives_steps_and_may_be_nested() -> None:
    whole = make_rollout(3, 2)

    assert [len(step) for step in whole] == [1, 1, 1]
    assert [places(one)[0][0] * 10 + places(two)[0][0] for one in whole for two in whole] == [
        0, 1, 2, 10, 11, 12, 20, 21, 22,
    ]  # fmt: skip
    assert_same(sum(list(whole)[1:], whole[0]), whole)


def test_where_sampling_stood_belongs_to_the_last_piece() -> None:
    whole = make_rollout(6, 4)
    whole = replace(whole, next=position(whole), episodes=(EpisodeSummary(row=0, total_reward=1.0, length=1),))

    assert whole[2:].next is whole.next
    assert whole[:-1].next is None
    assert whole[:2].episodes == ()
    assert whole[:].episodes == whole.episodes


@given(SEEDS, st.integers(1, 5))
def test_adjacent_pieces_join_to_what_they_were(seed: int, at: int) -> None:
    whole = make_rollout(6, 3, seed=seed, state_interval=2)
    joined = whole[:at] + whole[at:]

    assert_same(joined, whole)
    assert joined.stream is whole.stream
    assert_same(whole[1:3] + whole[3:5], whole[1:5])


@given(SEEDS, SEEDS)
def test_nothing_leaks_over_a_seam(one: int, other: int) -> None:
    first, second = make_rollout(4, 3, seed=one), make_rollout(5, 3, seed=other)
    joined = first + second

    apart = torch.cat([first.advantages(0.9, 0.8), second.advantages(0.9, 0.8)])
    assert torch.allclose(joined.advantages(0.9, 0.8), apart, atol=1e-6)
    assert torch.allclose(joined.returns(0.9), torch.cat([first.returns(0.9), second.returns(0.9)]), atol=1e-6)
    assert torch.equal(joined.truncated[3], ~first.terminated[3])
    assert not first.truncated[3][~first.ended[3]].any(), "the pieces stay as they were"
    assert torch.equal(joined.truncated[4:], second.truncated)


def test_pieces_of_other_rows_are_not_adjacent() -> None:
    whole = make_rollout(6, 4, ends=0.0)

    assert bool((whole[:3].rows([0, 1]) + whole[3:].rows([2, 3])).truncated[2].all())
    chosen = whole.rows([2, 0])
    assert_same(chosen[:3] + chosen[3:], chosen)


def test_resting_rows_are_not_cut_at_a_seam() -> None:
    first = replace(make_rollout(3, 2, ends=0.0), valid=torch.tensor([[True, True], [True, True], [True, False]]))
    joined = first + make_rollout(3, 2, seed=1)

    assert joined.truncated[2].tolist() == [True, False]
    assert joined.valid is not None
    assert joined.valid[3:].all()
    assert torch.equal(joined.valid[:3], first.valid if first.valid is not None else joined.valid)


def refused_joins() -> list[tuple[str, Callable[[], Any]]]:
    plain, memory = make_rollout(4, 3), make_rollout(4, 3, state_interval=2)
    return [
        ("3 and 2 rows", lambda: plain + make_rollout(4, 2)),
        ("with memory and one without", lambda: plain + memory),
        ("a memory to which", lambda: memory + make_rollout(4, 3, state_interval=2, seed=1)),
        ("have values and others", lambda: plain + make_rollout(4, 3, has_values=False)),
        ("different extras", lambda: plain + plain.with_extras(more=plain.rewards)),
        ("different parts", lambda: plain + replace(plain, observations=plain.rewards)),
        ("do not fit each other", lambda: plain + replace(plain, actions=(plain.rewards, plain.actions[1]))),
        ("no rollout to join", lambda: concatenate([])),
        ("no rollout to join", lambda: concatenate_rows([])),
        ("lengths", lambda: concatenate_rows([plain, plain[:2]])),
    ]


@pytest.mark.parametrize(("message", "join"), refused_joins())
def test_what_does_not_fit_is_not_joined(message: str, join: Callable[[], Any]) -> None:
    with pytest.raises(InvalidInputError, match=message):
        join()


def test_memory_goes_over_a_seam_where_episodes_begin() -> None:
    first, second = make_rollout(4, 3, state_interval=2), make_rollout(4, 3, state_interval=2, seed=1)
    second = replace(second, starts=torch.cat([torch.ones(1, 3, dtype=torch.bool), second.starts[1:]]))
    even, odd = first + second, first[:3] + second

    assert torch.equal(even.states, torch.cat([first.states, second.states]))
    assert even.state_interval == 2
    assert torch.equal(odd.states, first.states[:1])
    assert odd.state_interval == len(odd) == 7


def test_pieces_know_their_memory_or_that_it_is_lost() -> None:
    whole = make_rollout(6, 2, state_interval=2)

    assert whole[2:5].states[:, 0, 0].tolist() == [2, 4]
    assert whole[:1].states[:, 0, 0].tolist() == [0]
    assert whole[3:].states is None
    assert whole[3:].state_interval == 2


# ----------------------------------------------------------------------------------------------- in rows


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        (slice(1, 3), [1, 2]),
        ([2, 0], [2, 0]),
        (torch.tensor([3, 3]), [3, 3]),
        (-1, [3]),
        (torch.tensor([True, False, False, True]), [0, 3]),
    ],
)
def test_rows(index: Any, rows: list[int]) -> None:
    episodes = tuple(EpisodeSummary(row=row, total_reward=float(row), length=1) for row in range(4))
    chosen = replace(make_rollout(3, 4, state_interval=1), episodes=episodes).rows(index)

    assert places(chosen) == [(step, row) for step in range(3) for row in rows]
    assert chosen.states[:, :, 1].tolist() == [rows] * 3
    assert sorted((episode.row, episode.total_reward) for episode in chosen.episodes) == [
        (new, float(row)) for new, row in enumerate(rows)
    ]


@pytest.mark.parametrize("index", [4, [0, 9], slice(2, 2), [], torch.tensor([True, False])])
def test_rows_that_there_are_not(index: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"\b4\b"):
        make_rollout(3, 4).rows(index)


def test_rows_side_by_side() -> None:
    episode = EpisodeSummary(row=1, total_reward=1.0, length=1)
    one, other = (replace(make_rollout(4, n, seed=n, state_interval=2), episodes=(episode,)) for n in (2, 3))
    both = concatenate_rows([one, other])

    assert_same(both.rows(slice(0, 2)), one)
    assert_same(both.rows([2, 3, 4]), other)
    assert torch.equal(both.states[:, :2], one.states)
    assert [found.row for found in both.episodes] == [1, 3]
    assert torch.allclose(both.advantages(0.9, 0.9)[:, :2], one.advantages(0.9, 0.9), atol=1e-6)


# --------------------------------------------------------------------------------- shuffles and batches


def test_shuffling_moves_transitions_whole_and_touches_no_global_generator() -> None:
    whole = make_rollout(6, 4)
    before = global_generators()
    mixed = whole.shuffled(torch.Generator().manual_seed(1))

    assert global_generators() == before
    assert (len(mixed), mixed.n_rows) == (1, 24)
    assert places(mixed) != places(whole)
    assert sorted(places(mixed)) == places(whole)
    for (name, column), (_, parent) in zip(mixed.named_columns(), whole.named_columns(), strict=True):
        assert all(torch.equal(column[0, at], parent[place]) for at, place in enumerate(places(mixed))), name
    assert_same(mixed, whole.shuffled(torch.Generator().manual_seed(1)))


def test_shuffling_keeps_sequences_with_memory_whole() -> None:
    mixed = make_rollout(4, 6, state_interval=2).shuffled(torch.Generator().manual_seed(0))

    rows = [row for _, row in places(mixed[:1])]
    assert sorted(rows) == list(range(6)) != rows
    assert places(mixed) == [(step, row) for step in range(4) for row in rows]
    assert mixed.states[1, :, 1].tolist() == rows


@pytest.mark.parametrize("at_once", [0, 2**30], ids=["batch by batch", "at once"])
def test_minibatches_give_every_transition_once_per_epoch(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout_module, "GATHERED_AT_ONCE", at_once)
    whole = make_rollout(6, 4)
    batches = list(whole.minibatches(8, epochs=2, generator=torch.Generator().manual_seed(0)))

    assert [(len(batch), batch.n_rows) for batch in batches] == [(1, 8)] * 6
    epochs = [[place for batch in batches[at : at + 3] for place in places(batch)] for at in (0, 3)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == places(whole)
    assert epochs[0] != epochs[1]
    for (name, column), (_, parent) in zip(batches[4].named_columns(), whole.named_columns(), strict=True):
        assert all(torch.equal(column[0, at], parent[place]) for at, place in enumerate(places(batches[4]))), name


def test_minibatches_do_not_depend_on_how_they_are_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for at_once in (0, 2**30):
        monkeypatch.setattr(rollout_module, "GATHERED_AT_ONCE", at_once)
        batches = make_rollout(6, 4, state_interval=3).minibatches(
            6, generator=torch.Generator().manual_seed(0), sequence_length=3
        )
        found.append(list(batches))

    for one, other in zip(*found, strict=True):
        assert_same(one, other)
        assert torch.equal(one.states, other.states)


def test_a_whole_batch_is_not_copied() -> None:
    whole = make_rollout(6, 4)
    flat, again = whole.minibatches(epochs=2)

    assert flat is again
    assert places(flat) == places(whole)
    for (_, column), (_, parent) in zip(flat.named_columns(), whole.named_columns(), strict=True):
        assert column.data_ptr() == parent.data_ptr()
        assert column.shape == (1, 24, *parent.shape[2:])
    (same,) = make_rollout(6, 4, state_interval=6).minibatches(24)
    assert (len(same), same.n_rows) == (6, 4)


def test_order_is_kept_where_nothing_is_shuffled() -> None:
    whole = make_rollout(6, 4)

    assert [place for batch in whole.minibatches(6, shuffle=False) for place in places(batch)] == places(whole)


@pytest.mark.parametrize(("length", "interval"), [(2, 2), (4, 2), (8, 8), (8, 3), (2, 0), (1, 1)])
def test_sequences_are_kept_whole(length: int, interval: int) -> None:
    whole = make_rollout(8, 3, state_interval=interval)
    size = 3 * length
    batches = list(whole.minibatches(size, sequence_length=length, generator=torch.Generator().manual_seed(0)))

    assert len(batches) == 24 // size
    seen = []
    for batch in batches:
        assert (len(batch), batch.n_rows) == (length, 3)
        assert batch.state_interval == (length if interval else 0)
        for row in range(3):
            (first, home), *others = places(batch.rows(row))
            assert first % length == 0
            assert others == [(first + step, home) for step in range(1, length)]
            assert interval == 0 or batch.states[0, row].tolist() == [first, home]
            seen.append((first, home))
    assert sorted(seen) == [(first, row) for first in range(0, 8, length) for row in range(3)]


def test_with_memory_rows_are_kept_whole_unless_told_otherwise() -> None:
    batches = list(make_rollout(4, 6, state_interval=4).minibatches(8))

    assert [(len(batch), batch.n_rows) for batch in batches] == [(4, 2)] * 3


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("24 transitions .* of 7", {"size": 7}),
        ("24 transitions .* of 0", {"size": 0}),
        ("24 transitions .* of 48", {"size": 48}),
        ("6 steps .* of 4", {"sequence_length": 4}),
        ("6 steps .* of 0", {"sequence_length": 0}),
        ("minibatch of 4 .* of 3", {"size": 4, "sequence_length": 3}),
        ("every 2 steps.* of 3", {"sequence_length": 3}),
        ("epochs=0", {"epochs": 0}),
    ],
)
def test_numbers_that_do_not_divide_are_named_at_once(message: str, options: dict[str, int]) -> None:
    whole = make_rollout(6, 4, state_interval=2 if "every" in message else 0)

    with pytest.raises(InvalidInputError, match=message):
        whole.minibatches(**options)  # type: ignore[arg-type]  # every option here is a number


@pytest.mark.parametrize(
    ("size", "rows"), [(None, [5]), (4, [1] * 5), (8, [2, 2, 1]), (11, [2, 2, 1]), (99, [5]), (1, [1] * 5)]
)
def test_parts_are_blocks_of_rows_without_copies(size: int | None, rows: list[int]) -> None:
    whole = make_rollout(4, 5, state_interval=2)
    parts = list(whole.parts(size))

    assert [part.n_rows for part in parts] == rows
    assert_same(concatenate_rows(parts), whole)
    assert torch.equal(torch.cat([part.states for part in parts], 1), whole.states)
    assert all(
        part.rewards.untyped_storage().data_ptr() == whole.rewards.untyped_storage().data_ptr() for part in parts
    )


def test_parts_hold_something() -> None:
    with pytest.raises(InvalidInputError, match="size=0"):
        make_rollout().parts(0)


# ---------------------------------------------------------------------------------- derived quantities


@given(SEEDS, st.sampled_from([0.0, 0.9, 1.0]), st.booleans())
def test_returns_are_the_double_sum(seed: int, gamma: float, bootstrap: bool) -> None:
    whole = make_rollout(6, 3, seed=seed)
    assert whole.next_values is not None
    found = whole.returns(gamma, bootstrap=bootstrap)

    for row in range(3):
        for step in range(6):
            end = next((t for t in range(step, 6) if whole.ended[t, row]), 5)
            total = sum(gamma ** (t - step) * float(whole.rewards[t, row]) for t in range(step, end + 1))
            if bootstrap and not whole.terminated[end, row]:
                total += gamma ** (end + 1 - step) * float(whole.next_values[end, row])
            assert float(found[step, row]) == pytest.approx(total, abs=1e-5)


def test_advantages_with_lambda_1_are_returns_minus_values() -> None:
    whole = make_rollout(6, 3)
    other = torch.randn(6, 3)
    assert whole.values is not None

    assert torch.allclose(whole.advantages(0.9, 1.0), whole.returns(0.9) - whole.values, atol=1e-5)
    assert torch.equal(whole.advantages(0.9, 0.5, rewards=other), replace(whole, rewards=other).advantages(0.9, 0.5))
    assert torch.equal(whole.returns(0.9, rewards=other), replace(whole, rewards=other).returns(0.9))


def test_without_values_there_are_returns_but_no_advantages() -> None:
    whole = make_rollout(6, 3, has_values=False)

    assert torch.equal(whole.returns(0.9), make_rollout(6, 3).returns(0.9, bootstrap=False))
    with pytest.raises(InvalidInputError, match="it gave none"):
        whole.advantages(0.9, 0.9)


def test_everything_moves_and_lets_go_of_graphs() -> None:
    whole = make_rollout(state_interval=2)
    whole = replace(whole, next=position(whole), log_prob=whole.rewards.clone().requires_grad_())
    moved, free = whole.to("meta"), whole.detach()

    assert moved.device.type == "meta"
    assert all(column.device.type == "meta" for _, column in moved.named_columns())
    assert moved.next is not None
    assert moved.next.episode_returns.device.type == moved.states.device.type == "meta"
    assert moved.stream is whole.stream
    assert not any(column.requires_grad for _, column in free.named_columns())
    assert free.next is not None
    assert not free.next.state["h"].requires_grad
    assert whole.log_prob is not None
    assert whole.log_prob.requires_grad


def test_a_table_of_episodes_is_a_sequence_of_summaries() -> None:
    table = EpisodeTable(np.array([2, 0, 1]), np.array([1.5, 2.5, 3.5]), np.array([4, 5, 6]))

    assert list(table) == [
        EpisodeSummary(row=2, total_reward=1.5, length=4),
        EpisodeSummary(row=0, total_reward=2.5, length=5),
        EpisodeSummary(row=1, total_reward=3.5, length=6),
    ]
    assert list(table[-2:]) == list(table)[-2:]
    assert table[-1] == table[2]
    assert type(table[0].row) is int
