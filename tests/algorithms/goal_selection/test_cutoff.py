from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_framework.algorithms.goal_selection.cutoff import Cutoff, value_of_steps

TEN = [True] * 10


def make(initial: float = -3.0) -> Cutoff:
    return Cutoff(initial, gamma=0.98, episode_steps=50)


def test_ten_successes_lower_it_by_one_as_far_as_goals_are_worth() -> None:
    cutoff, found = make(), []

    for lowest in (-3.5, -9.0, -4.0, -9.0, -9.0, -9.0, -9.0, -9.0):
        cutoff.take(TEN, lowest)
        found.append(cutoff.value)

    # The least value so far bounds it: -3.5, and -9 from then on.
    assert found == [-3.5, -4.5, -5.5, -6.5, -7.5, -8.5, -9.0, -9.0]


def test_ten_failures_raise_it_by_one_up_to_where_it_began() -> None:
    cutoff = make()
    for _ in range(3):
        cutoff.take(TEN, -20.0)
    found = []

    for _ in range(5):
        cutoff.take([False] * 10, -20.0)
        found.append(cutoff.value)

    assert found == [-5.0, -4.0, -3.0, -3.0, -3.0]


@pytest.mark.parametrize(("n_successes", "change"), [(0, 1), (3, 1), (4, 0), (5, 0), (6, 0), (7, -1), (10, -1)])
def test_shares_of_successes_between_the_thresholds_change_nothing(n_successes: int, change: int) -> None:
    cutoff = make()
    cutoff.take(TEN, -20.0)
    cutoff.take(TEN, -20.0)

    cutoff.take([index < n_successes for index in range(10)], -20.0)

    assert cutoff.value == -5.0 + change


def test_the_window_is_cleared_after_a_change_and_slides_otherwise() -> None:
    cutoff = make()

    cutoff.take([True] * 9, -20.0)
    assert cutoff.value == -3.0
    cutoff.take([True], -20.0)
    assert cutoff.value == -4.0
    cutoff.take([True] * 9, -20.0)
    assert cutoff.value == -4.0  # nine since the change
    cutoff.take([False], -20.0)
    assert cutoff.value == -5.0  # nine of ten

    cutoff.take([True] * 5 + [False] * 5, -20.0)
    assert cutoff.value == -5.0
    cutoff.take([True] * 5, -20.0)  # five failures and five successes
    assert cutoff.value == -5.0
    cutoff.take([True, True], -20.0)  # the last ten are three failures and seven successes
    assert cutoff.value == -6.0


def test_it_never_goes_below_what_eight_tenths_of_an_episode_cost() -> None:
    cutoff = make()

    for _ in range(100):
        cutoff.take(TEN, -1000.0)

    assert cutoff.value == pytest.approx(-(1.0 - 0.98**40) / 0.02)
    assert make(initial=-1000.0).value == cutoff.value


@pytest.mark.parametrize(
    ("gamma", "value"), [(0.5, -(1 - 0.5**40) / 0.5), (0.995, -(1 - 0.99**40) / 0.01), (1.0, -40.0)]
)
def test_value_of_steps(gamma: float, value: float) -> None:
    assert value_of_steps(40, gamma) == pytest.approx(value)


@given(
    st.lists(st.tuples(st.lists(st.booleans(), max_size=12), st.floats(-100.0, 0.0)), max_size=40), st.integers(0, 40)
)
def test_it_goes_on_where_it_was_saved_and_stays_within_its_bounds(
    events: list[tuple[list[bool], float]], saved_after: int
) -> None:
    cutoff, other = make(), make()

    for index, event in enumerate(events):
        if index == saved_after:
            other.load_state_dict(cutoff.state_dict())
        cutoff.take(*event)
        assert value_of_steps(40, 0.98) <= cutoff.value <= -3.0
        if index >= saved_after:
            other.take(*event)
            assert other.value == cutoff.value
