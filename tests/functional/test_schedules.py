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
    as_schedule,
)

SCHEDULES: list[AnySchedule] = [
    ConstantSchedule(0.3),
    LinearSchedule(1.0, 0.05, fraction=0.5),
    ExponentialSchedule(1.0, 0.01, fraction=0.8),
]


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


@pytest.mark.parametrize("data", [{"kind": "cosine", "value": 1.0}, {"value": 1.0}, {"kind": "linear", "start": 1.0}])
def test_json_of_no_schedule_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(UnknownOptionError):
        as_schedule(data)


@pytest.mark.parametrize("value", ["0.1", None, True])
def test_something_else_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInputError, match="Expected a number or a schedule"):
        as_schedule(value)
