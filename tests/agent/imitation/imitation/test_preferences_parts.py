"""The parts of preference comparisons: rounds, what is kept to be compared, and what was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from imitation.algorithms.preference_comparisons import PreferenceDataset
from imitation.data.types import TrajectoryWithRew

from rl_framework.agent.imitation.imitation.comparisons import (
    comparisons_per_round,
    dataset_state,
    load_dataset_state,
    merged_rounds,
)
from rl_framework.agent.imitation.imitation.played_trajectories import PlayedTrajectories, pack, unpack


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (lambda part: 1.0, [10, 30, 30, 30]),
        (lambda part: 1.0 / (1.0 + part), [10, 42, 27, 21]),
    ],
    ids=["constant", "hyperbolic"],
)
def test_comparisons_follow_the_schedule(schedule: Any, expected: list[int]) -> None:
    shares = comparisons_per_round(100, 0.1, 3, schedule)
    assert sum(shares) == 100
    assert np.abs(np.array(shares) - expected).max() <= 1


def test_rounds_are_merged_where_rollouts_are_few() -> None:
    assert merged_rounds([10, 5, 4, 3, 2], 9) == [10, 5, 4, 3, 2]
    assert merged_rounds([10, 5, 4, 3, 2], 3) == [15, 7, 2]
    assert merged_rounds([10, 5, 4, 3, 2], 1) == [24]


def test_trajectories_survive_being_written_down() -> None:
    given = [_trajectory(3, terminal=True), _trajectory(5, terminal=False)]
    assert unpack(pack(given)) == given
    assert unpack(pack([])) == []
    assert unpack(pack(given))[0].obs.dtype == np.uint8


def _trajectory(steps: int, *, terminal: bool) -> TrajectoryWithRew:
    return TrajectoryWithRew(
        obs=np.arange(steps + 1, dtype=np.uint8)[:, None] + steps,
        acts=np.arange(steps),
        rews=np.arange(steps, dtype=np.float32),
        infos=None,
        terminal=terminal,
    )


def test_a_smaller_queue_keeps_the_newest_comparisons() -> None:
    full, small = PreferenceDataset(), PreferenceDataset(max_size=2)
    pairs = [(_trajectory(3, terminal=False), _trajectory(3, terminal=True))] * 3
    full.push(pairs, np.array([0.0, 0.5, 1.0], dtype=np.float32))
    load_dataset_state(small, dataset_state(full))
    assert small.preferences.tolist() == [0.5, 1.0]
    assert len(small) == 2


def test_what_is_kept_to_be_compared_is_bounded() -> None:
    played = PlayedTrajectories(model=None, rng=np.random.default_rng(0))  # type: ignore[arg-type]  # nobody plays
    played.most_steps = 10
    observations, ends = np.zeros((1, 2), dtype=np.float32), np.ones(1, dtype=np.bool_)
    for number in range(30):
        played.add(observations + number, np.zeros(1), observations + number + 1, np.ones(1, dtype=np.float32), ends)
    kept = played.sample(10)
    first_numbers: list[Any] = [one.obs[0] for one in kept]
    assert [int(number[0]) for number in first_numbers] == list(range(29, 19, -1))
