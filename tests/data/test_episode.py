"""An episode is whole and unchangeable, or it is not made; its error names the numbers."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_framework.data import Episode
from rl_framework.errors import InvalidInputError


def make(steps: int = 4, **changes: Any) -> Episode:
    values: dict[str, Any] = {
        "observations": {
            "camera": np.arange((steps + 1) * 4, dtype=np.uint8).reshape(steps + 1, 2, 2),
            "joints": (np.linspace(0, 1, steps + 1, dtype=np.float32),),
        },
        "actions": np.arange(steps),
        "rewards": np.arange(steps, dtype=np.float64),
        "terminated": True,
        "infos": tuple({"step": step} for step in range(steps)),
    }
    return Episode(**(values | changes))


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_length_is_the_number_of_actions(steps: int) -> None:
    assert len(make(steps)) == steps


def test_total_reward_sums_in_double_precision() -> None:
    episode = make(3, rewards=np.array([1e8, 1.0, 1.0], dtype=np.float32))
    assert episode.total_reward == 1e8 + 2


def test_number_types_stay() -> None:
    episode = make()
    assert episode.observations["camera"].dtype == np.uint8
    assert episode.observations["joints"][0].dtype == np.float32


@pytest.mark.parametrize("terminated", [True, False])
def test_truncated_is_the_opposite_of_terminated(terminated: bool) -> None:
    assert make(terminated=terminated).truncated is not terminated


def test_without_rewards_there_is_no_total() -> None:
    with pytest.raises(InvalidInputError, match="4 steps was recorded without rewards"):
        _ = make(rewards=None).total_reward


def test_nothing_can_be_changed_and_the_callers_arrays_stay_writable() -> None:
    actions = np.arange(4)
    episode = make(actions=actions)
    with pytest.raises(ValueError, match="read-only"):
        episode.actions[0] = 9
    with pytest.raises(ValueError, match="read-only"):
        episode.observations["joints"][0][0] = 9
    with pytest.raises(FrozenInstanceError):
        episode.terminated = False  # type: ignore[misc]  # the test is that it fails
    actions[0] = 3
    assert np.shares_memory(actions, episode.actions)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actions": np.arange(5)}, r"observations\.camera has 5 entries, expected 6, one more than the 5 actions"),
        ({"actions": (np.arange(4), np.arange(3))}, r"actions\.1 has 3 entries, expected 4"),
        ({"observations": np.zeros((4, 2))}, "observations has 4 entries, expected 5"),
        (
            {"observations": {"a": np.zeros(5), "b": {"c": np.zeros(6)}}},
            r"observations\.b\.c has 6 entries, expected 5",
        ),
        ({"observations": np.array(3.0)}, "observations has no axis"),
        ({"observations": {}}, "observations has no arrays"),
        ({"observations": [1, 2, 3, 4, 5]}, "observations must be a NumPy array of numbers, got list"),
        ({"observations": np.array([None] * 5)}, "array of object"),
        ({"actions": [0, 1]}, "got list"),
        ({"actions": {}}, "empty tree"),
        ({"actions": np.zeros((0, 2))}, "at least one step"),
        ({"rewards": np.zeros(3)}, r"rewards has shape \(3,\), expected \(4,\)"),
        ({"rewards": np.zeros((4, 1))}, r"rewards has shape \(4, 1\)"),
        ({"rewards": [0.0] * 4}, "got list"),
        ({"rewards": np.zeros(4, dtype=int)}, "array of int64"),
        ({"infos": ({},)}, "infos has 1 entries, expected 4"),
    ],
)
def test_what_does_not_fit_is_named_with_its_numbers(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        make(**changes)


def test_a_slice_is_cut_unless_it_reaches_the_end() -> None:
    episode = make(6)
    middle, tail = episode[2:4], episode[4:]
    assert (len(middle), middle.terminated) == (2, False)
    assert (len(tail), tail.terminated) == (2, True)
    assert middle.infos == ({"step": 2}, {"step": 3})
    assert np.array_equal(middle.observations["camera"], episode.observations["camera"][2:5])
    assert np.shares_memory(middle.actions, episode.actions)


@given(steps=st.integers(1, 12), cut=st.integers(1, 11))
def test_two_slices_hold_the_whole(steps: int, cut: int) -> None:
    episode = make(steps)
    if cut < steps:
        first, second = episode[:cut], episode[cut:]
        assert first.total_reward + second.total_reward == episode.total_reward
        assert np.array_equal(first.observations["joints"][0][-1], second.observations["joints"][0][0])
    assert episode[:] == episode


@pytest.mark.parametrize("part", [slice(2, 2), slice(9, 12), slice(0, 4, 2), 3])
def test_a_slice_without_steps_or_with_gaps_is_refused(part: Any) -> None:
    with pytest.raises(InvalidInputError):
        make()[part]


def test_equality_is_of_numbers_types_and_structure() -> None:
    nan = np.array([np.nan, 1.0, 2.0, 3.0])
    assert make(rewards=nan) == make(rewards=nan.copy())
    assert make() != make(rewards=nan)
    assert make() != make(rewards=None)
    assert make() != make(actions=np.arange(4, dtype=np.int32))
    assert make() != make(observations=np.zeros((5, 2)))
    assert make() != make(terminated=False)
    assert make() != "episode"


def test_equality_of_infos_looks_into_them() -> None:
    def remarked(**remark: Any) -> Episode:
        return make(1, infos=({"a": {"b": [np.arange(3), 1.5]}} | remark,))

    assert remarked() == remarked()
    assert remarked(nan=float("nan")) == remarked(nan=float("nan"))
    assert remarked(array=np.arange(3)) == remarked(array=np.arange(3))
    assert remarked(array=np.arange(3)) != remarked(array=np.arange(4))
    assert remarked(array=np.arange(3)) != remarked(array=[0, 1, 2])
    assert remarked(text="a") != remarked(text="b")
    assert remarked(text="a") != remarked()
    assert remarked() != make(1, infos=None)


def test_one_made_of_checked_parts_is_like_any_other() -> None:
    whole = make()
    parts = (whole.observations, whole.actions, whole.rewards, whole.terminated, whole.infos)
    again = Episode.from_checked(*parts)
    assert again == whole
    assert again[1:3] == whole[1:3]
    assert pickle.loads(pickle.dumps(again)) == whole
    with pytest.raises(FrozenInstanceError):
        again.terminated = False  # type: ignore[misc]  # the test is that it fails


def test_it_travels_between_processes_and_can_be_changed_into_another() -> None:
    episode = make()
    assert pickle.loads(pickle.dumps(episode)) == episode
    assert replace(episode, terminated=False).truncated
