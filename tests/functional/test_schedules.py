from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_framework.errors import InvalidInputError, UnknownOptionError
from rl_framework.functional.schedules import (
    AnySchedule,
    ConstantSchedule,
    ExponentialSchedule,
    LinearSchedule,
    PiecewiseSchedule,
    as_schedule,
)

SCHEDULES: list[AnySchedule] = [
    ConstantSchedule(0.3),
    LinearSchedule(1.0, 0.05, fraction=0.5),
    ExponentialSchedule(1.0, 0.01, fraction=0.8),
    PiecewiseSchedule(((0.0, 1.0), (0.3, 0.5), (1.0, 0.0)), interpolation="linear"),
]
POINTS = ((0.0, 1.0), (0.1, 0.5), (0.6, 0.9))


@pytest.mark.parametrize(("remaining", "expected"), [(1.0, 1.0), (0.75, 0.5), (0.5, 0.0), (0.25, 0.0), (0.0, 0.0)])
def test_linear_falls_over_its_fraction_and_stays(remaining: float, expected: float) -> None:
    assert LinearSchedule(1.0, 0.0, fraction=0.5)(remaining) == pytest.approx(expected)


def test_exponential_falls_by_the_same_factor_in_equal_times() -> None:
    schedule = ExponentialSchedule(1.0, 0.01)
    values = [schedule(remaining) for remaining in (1.0, 0.75, 0.5, 0.25, 0.0)]
    assert values == pytest.approx([1.0, 0.1**0.5, 0.1, 0.1**1.5, 0.01])


def test_constant_stays() -> None:
    assert {ConstantSchedule(0.3)(remaining) for remaining in (1.0, 0.4, 0.0)} == {0.3}


def test_linear_ends_exactly_at_its_ends() -> None:
    schedule = LinearSchedule(0.1, 0.3, fraction=0.7)
    assert (schedule(1.0), schedule(0.0)) == (0.1, 0.3)


@pytest.mark.parametrize(
    ("done", "stepped", "drawn"),
    [(0.0, 1.0, 1.0), (0.05, 1.0, 0.75), (0.1, 0.5, 0.5), (0.35, 0.5, 0.7), (0.6, 0.9, 0.9), (1.0, 0.9, 0.9)],
)
def test_piecewise_holds_its_values_or_draws_lines_between_them(done: float, stepped: float, drawn: float) -> None:
    assert PiecewiseSchedule(POINTS)(1.0 - done) == stepped
    assert PiecewiseSchedule(POINTS, interpolation="linear")(1.0 - done) == pytest.approx(drawn)


@pytest.mark.parametrize("n_updates", [10, 30, 70, 1000])
def test_a_step_is_taken_at_its_share_of_the_updates_whatever_the_rounding(n_updates: int) -> None:
    for update in range(n_updates):
        schedule = PiecewiseSchedule(((0.0, 0.0), (update / n_updates, 1.0)) if update else ((0.0, 1.0),))
        assert schedule(1.0 - update / n_updates) == 1.0
        assert update == 0 or schedule(1.0 - (update - 1) / n_updates) == 0.0


def test_piecewise_is_held_beyond_the_run() -> None:
    schedule = PiecewiseSchedule(POINTS, interpolation="linear")
    assert (schedule(1.5), schedule(-0.5)) == (1.0, 0.9)


def test_piecewise_of_two_points_is_the_linear_schedule() -> None:
    line = LinearSchedule(1.0, 0.2, fraction=0.4)
    points = PiecewiseSchedule(((0.0, 1.0), (0.4, 0.2)), interpolation="linear")
    shares = [step / 20 for step in range(21)]
    assert [points(share) for share in shares] == pytest.approx([line(share) for share in shares])


@settings(deadline=None)
@given(remaining=st.floats(-0.5, 1.5))
def test_schedules_stay_between_their_ends_even_beyond_the_run(remaining: float) -> None:
    assert 0.05 <= LinearSchedule(1.0, 0.05, fraction=0.5)(remaining) <= 1.0
    assert 0.01 * (1 - 1e-12) <= ExponentialSchedule(1.0, 0.01)(remaining) <= 1.0


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_survive_json(schedule: AnySchedule) -> None:
    assert as_schedule(json.loads(json.dumps(asdict(schedule)))) == schedule


def test_a_number_is_a_constant_schedule() -> None:
    assert as_schedule(2) == ConstantSchedule(2.0)


def test_a_schedule_stays_what_it_is() -> None:
    assert all(as_schedule(schedule) is schedule for schedule in SCHEDULES)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (ConstantSchedule, {"value": float("nan")}),
        (LinearSchedule, {"initial": 1.0, "final": float("inf")}),
        (LinearSchedule, {"initial": "1", "final": 0.0}),
        (LinearSchedule, {"initial": 1.0, "final": 0.0, "fraction": 0.0}),
        (ExponentialSchedule, {"initial": 1.0, "final": 0.1, "fraction": 1.5}),
        (ExponentialSchedule, {"initial": 1.0, "final": 0.0}),
    ],
)
def test_numbers_out_of_range_are_refused(kind: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=r"of a schedule must be|of an exponential schedule must be"):
        kind(**arguments)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ((), "must rise from 0"),
        (((0.1, 1.0),), "must rise from 0"),
        (((0.0, 1.0), (0.5, 0.0), (0.5, 1.0)), "must rise from 0"),
        (((0.0, 1.0), (1.5, 0.0)), "must rise from 0 to at most 1"),
        (((0.0, 1.0), (0.5,)), "must be a pair"),
        ((0.0, 1.0), "must be a pair"),
        (3, "must be pairs"),
        ("ab", "must be pairs"),
        (((0.0, float("nan")),), "value of a point of a schedule must be a finite number"),
        (((0.0, 1.0), ("0.5", 0.0)), "share of a point of a schedule must be a finite number"),
    ],
)
def test_points_that_are_none_are_refused(points: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        PiecewiseSchedule(points)


def test_unknown_interpolation_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidInputError, match=r"must be one of \('step', 'linear'\), got 'liner'"):
        as_schedule({"kind": "piecewise", "points": [[0.0, 1.0]], "interpolation": "liner"})


@pytest.mark.parametrize("data", [{"kind": "cosine", "value": 1.0}, {"value": 1.0}, {"kind": "linear", "start": 1.0}])
def test_json_of_no_schedule_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(UnknownOptionError):
        as_schedule(data)


@pytest.mark.parametrize("value", ["0.1", None, True])
def test_something_else_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInputError, match="Expected a number or a schedule"):
        as_schedule(value)
