from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from rl_framework.callbacks.function import FunctionCallback, as_callback
from rl_framework.core.reports import Report
from rl_framework.errors import InvalidInputError
from tests.callbacks.scripted_runs import Recorder, ScriptedTraining


def test_a_function_gets_every_report() -> None:
    seen: list[Report] = []
    ScriptedTraining([as_callback(seen.append)], 40, report_every=20).conduct()
    assert [report.timesteps for report in seen] == [20, 40]


def test_false_stops_the_run() -> None:
    def stop_at_30(report: Report) -> bool:
        return report.timesteps < 30

    summary = ScriptedTraining([as_callback(stop_at_30)], 100, report_every=10).conduct()
    assert (summary.total_timesteps, summary.stop_reason) == (30, "stop_at_30 returned False at step 30")


@pytest.mark.parametrize("value", [None, 0, 0.0, "", []])
def test_other_empty_values_do_not_stop_it(value: Any) -> None:
    assert ScriptedTraining([as_callback(lambda _: value)], 100).conduct().stop_reason is None


def test_what_the_function_raises_ends_the_run() -> None:
    def fail(report: Report) -> None:
        raise ZeroDivisionError("deliberate")

    with pytest.raises(ZeroDivisionError, match="deliberate"):
        ScriptedTraining([as_callback(fail)]).conduct()


def test_a_function_can_ask_for_more_reports() -> None:
    seen: list[Report] = []
    ScriptedTraining([FunctionCallback(seen.append, every_timesteps=25)], 50, report_every=100).conduct()
    assert [report.timesteps for report in seen] == [25, 50]


@pytest.mark.parametrize("function", [print, partial(max, 1), lambda report, *, loud=False: None, [].append])
def test_whatever_takes_one_argument_will_do(function: Any) -> None:
    assert isinstance(as_callback(function), FunctionCallback)


@pytest.mark.parametrize("function", [lambda: None, lambda a, b: None, lambda *, report: None])
def test_a_function_that_does_not_take_a_report_is_refused_at_once(function: Any) -> None:
    with pytest.raises(InvalidInputError, match="called with one argument, the Report"):
        as_callback(function)


def test_a_callback_stays_what_it_is() -> None:
    recorder = Recorder()
    assert as_callback(recorder) is recorder


def test_a_class_instead_of_an_object_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="got the class Recorder: call it first"):
        as_callback(Recorder)


def test_something_else_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="got int: 3"):
        as_callback(3)
