"""Draws in proportion to priorities, against a slow twin."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_framework.algorithms.host_access import HostAccessRefused
from rl_framework.data.sampling.sum_tree import SumTree


def slow_find(priorities: list[float], position: float) -> int:
    """The first entry at which the running sum exceeds the position."""
    total = 0.0
    for entry, priority in enumerate(priorities):
        total += priority
        if total > position:
            return entry
    raise AssertionError(f"{position} lies beyond {total}.")


# Small whole numbers add up without rounding, so that both must agree on every entry.
PRIORITIES = st.lists(st.integers(0, 3), min_size=1, max_size=2100).filter(any)


@given(PRIORITIES, st.lists(st.floats(0.0, 1.0, exclude_max=True), min_size=1, max_size=20))
def test_entries_are_those_of_the_running_sum(priorities: list[int], shares: list[float]) -> None:
    tree = SumTree(len(priorities))
    tree.load(torch.tensor(priorities, dtype=torch.float64))
    positions = [share * sum(priorities) for share in shares]

    found = tree.find(torch.tensor(positions, dtype=torch.float64))

    assert found.tolist() == [slow_find([float(each) for each in priorities], position) for position in positions]
    assert tree.total.item() == sum(priorities)


@pytest.mark.parametrize("capacity", [1, 31, 32, 33, 1024, 1025, 40_000])
def test_set_changes_what_is_found_at_every_size(capacity: int) -> None:
    tree, rng = SumTree(capacity), np.random.default_rng(capacity)
    expected = np.zeros(capacity)
    for _ in range(5):
        entries = rng.integers(0, capacity, 300)
        values = rng.uniform(0.0, 2.0, 300)
        tree.set(torch.from_numpy(entries), torch.from_numpy(values))
        expected[entries] = 0.0
        np.maximum.at(expected, entries, values)
        again = SumTree(capacity)
        again.load(torch.from_numpy(expected))
        positions = torch.rand(500, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * again.total

        assert tree.priorities.tolist() == expected.tolist()
        assert tree.total.item() == pytest.approx(expected.sum())
        assert torch.equal(tree.find(positions), again.find(positions))
        assert (
            np.searchsorted(expected.cumsum(), positions.numpy(), side="right").tolist()
            == tree.find(positions).tolist()
        )


def test_entries_without_priority_are_not_found_where_sums_are_rounded() -> None:
    tree = SumTree(5000)
    entries = torch.arange(0, 4000, 7)
    tree.set(entries, torch.rand(len(entries), generator=torch.Generator().manual_seed(3)) * 1e-3 + 0.1)
    total = tree.total

    found = tree.find(torch.stack([total, total * 2, total - 1e-13, torch.zeros_like(total)]))

    assert found.tolist() == [entries[-1].item(), entries[-1].item(), entries[-1].item(), 0]


def test_of_an_entry_given_twice_the_largest_priority_counts() -> None:
    tree = SumTree(100)
    tree.set(torch.tensor([7]), torch.tensor([9.0]))

    tree.set(torch.tensor([7, 3, 7, 7]), torch.tensor([1.0, 2.0, 5.0, 4.0]))

    assert tree[torch.tensor([7, 3, 0])].tolist() == [5.0, 2.0, 0.0]
    assert tree.total.item() == 7.0


def test_nothing_waits_for_the_device() -> None:
    tree = SumTree(2000)
    entries, priorities = torch.arange(50), torch.ones(50)
    with HostAccessRefused(torch.device("cpu")):
        tree.set(entries, priorities)
        found = tree.find(torch.rand(10, dtype=torch.float64) * tree.total)

    assert (found < 50).all()
