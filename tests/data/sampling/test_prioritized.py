"""Rows with large errors come more often, and their weights undo it."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from gymnasium import spaces
from scipy.stats import chisquare

from rl_framework.algorithms.host_access import HostAccessRefused
from rl_framework.data.replay_buffer import ReplayBuffer
from rl_framework.data.sampling.prioritized import PrioritizedSelection
from rl_framework.errors import InvalidInputError


def filled(count: int, capacity: int = 100) -> ReplayBuffer:
    """A replay of the numbers from 0 on."""
    replay = ReplayBuffer(capacity, {"numbers": spaces.Box(-np.inf, np.inf, ())})
    add(replay, count)
    return replay


def add(replay: ReplayBuffer, count: int) -> torch.Tensor:
    numbers = torch.arange(replay.total, replay.total + count).float()
    return replay.add_episode({"numbers": numbers})


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_rows_are_drawn_in_proportion_to_the_power_of_their_errors() -> None:
    selection = PrioritizedSelection(filled(40), alpha=0.7, epsilon=0.01)
    errors = torch.randn(40, generator=seeded()) * 3
    selection.update_priorities(torch.arange(40), errors)

    rows = torch.cat([selection.select(7, seeded(seed)).rows for seed in range(4000)])

    shares = (errors.double().abs() + 0.01) ** 0.7
    expected = shares / shares.sum() * len(rows)
    assert chisquare(torch.bincount(rows, minlength=40), expected).pvalue > 1e-3


def test_each_equal_part_of_the_whole_gives_one_row() -> None:
    selection = PrioritizedSelection(filled(64))

    assert selection.select(64, seeded()).rows.tolist() == list(range(64))


def test_weights_undo_the_bias_more_and_more() -> None:
    selection = PrioritizedSelection(filled(3), alpha=1.0, beta=0.4, beta_steps=10, epsilon=1e-9)
    selection.update_priorities(torch.arange(3), torch.tensor([1.0, -2.0, 4.0]))
    for batch in range(14):
        beta = min(1.0, 0.4 + 0.6 * batch / 10)

        selected = selection.select(50, seeded(batch))

        assert selected.weights is not None
        expected = torch.tensor([1.0, 0.5, 0.25]) ** beta
        torch.testing.assert_close(selected.weights, expected[selected.rows])


def test_weights_make_means_those_of_even_draws() -> None:
    replay = filled(20)
    selection = PrioritizedSelection(replay, alpha=1.0, beta=1.0)
    errors = torch.rand(20, generator=seeded()) + 0.1
    selection.update_priorities(torch.arange(20), errors)

    selected = selection.select(200_000, seeded())

    assert selected.weights is not None
    numbers = replay.read(["numbers"], selected.rows)["numbers"]
    assert (selected.weights * numbers).sum() / selected.weights.sum() == pytest.approx(9.5, abs=0.05)


def test_new_rows_have_the_largest_priority_there_has_been_also_over_old_ones() -> None:
    replay = filled(100)
    selection = PrioritizedSelection(replay, alpha=0.5, epsilon=1e-9)
    selection.update_priorities(torch.arange(100), torch.full((100,), 0.01))
    selection.update_priorities(torch.tensor([5]), torch.tensor([16.0]))
    selection.update_priorities(torch.tensor([5]), torch.tensor([0.04]))

    selection.added(add(replay, 3))

    assert selection.priorities[:5].tolist() == pytest.approx([4.0, 4.0, 4.0, 0.1, 0.1], rel=1e-6)
    assert selection.priorities[5].item() == pytest.approx(0.2, rel=1e-6)


def test_rows_that_are_not_stored_are_not_drawn() -> None:
    replay = filled(2)
    selection = PrioritizedSelection(replay)
    assert set(selection.select(100, seeded()).rows.tolist()) == {0, 1}

    selection.added(add(replay, 1))

    assert set(selection.select(100, seeded()).rows.tolist()) == {0, 1, 2}


def test_alpha_zero_draws_evenly() -> None:
    selection = PrioritizedSelection(filled(10), alpha=0.0)
    selection.update_priorities(torch.arange(10), torch.arange(10) * 100.0)

    assert selection.select(10, seeded()).rows.tolist() == list(range(10))


def test_it_goes_on_as_if_it_had_not_been_interrupted() -> None:
    replay = filled(80)
    selections = [PrioritizedSelection(replay, beta_steps=5) for _ in range(2)]
    for seed in range(3):
        selected = selections[0].select(16, seeded(seed))
        selections[0].update_priorities(selected.rows, torch.randn(16, generator=seeded(seed)))

    selections[1].load_state_dict(selections[0].state_dict())

    rows = add(replay, 2)
    for selection in selections:
        selection.added(rows)
    ours, theirs = (selection.select(32, seeded(9)) for selection in selections)
    assert torch.equal(ours.rows, theirs.rows)
    assert ours.weights is not None
    assert theirs.weights is not None
    assert torch.equal(ours.weights, theirs.weights)


def test_a_saved_state_is_a_copy_that_fits_its_capacity_only() -> None:
    selection = PrioritizedSelection(filled(10))
    state = selection.state_dict()
    selection.update_priorities(torch.arange(10), torch.full((10,), 100.0))

    assert state["priorities"][:10].tolist() == [1.0] * 10
    with pytest.raises(InvalidInputError, match="those of 100 rows; this replay has 50"):
        PrioritizedSelection(filled(1, capacity=50)).load_state_dict(state)


def test_nothing_waits_for_the_device() -> None:
    selection = PrioritizedSelection(filled(50))
    errors = torch.rand(8, generator=seeded())
    with HostAccessRefused(torch.device("cpu")):
        selected = selection.select(8, seeded())
        selection.update_priorities(selected.rows, errors)

    assert (selection.priorities[selected.rows] != 1.0).any()


def test_an_empty_replay_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="the replay is empty"):
        PrioritizedSelection(ReplayBuffer(4, {"numbers": spaces.Box(0.0, 1.0, ())})).select(1, seeded())


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"alpha": -0.1}, "alpha=-0.1 (0 or more)"),
        ({"beta": 1.1}, "beta=1.1 (from 0 to 1)"),
        ({"beta_steps": 0}, "beta_steps=0 (1 or more)"),
        ({"epsilon": 0.0}, "epsilon=0.0 (more than 0)"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], complaint: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(complaint)):
        PrioritizedSelection(filled(1), **settings)  # type: ignore[arg-type]  # one of them is an int
