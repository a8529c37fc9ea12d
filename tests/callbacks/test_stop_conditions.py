from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rl_framework.callbacks.base import Callback
from rl_framework.callbacks.checkpoint_schedule import CheckpointSchedule
from rl_framework.callbacks.stop_conditions import StopOnPlateau, StopOnReturn, StopOnWallTime
from rl_framework.errors import InvalidInputError, UnknownOptionError
from tests.callbacks.scripted_runs import ScriptedTraining


def end_of(stop: Callback, **options: Any) -> tuple[int, str | None]:
    training = ScriptedTraining([stop], 200, **{"report_every": 1, **options})
    summary = training.conduct()
    return training.timesteps, summary.stop_reason


# Return


def test_stops_when_the_mean_of_the_window_reaches_the_threshold() -> None:
    steps, reason = end_of(StopOnReturn(42.5, window=4))
    assert steps == 50  # the returns 35, 40, 45, 50
    assert reason == "the mean return 42.5 of the last 4 episodes reached 42.5"


def test_one_lucky_episode_is_not_enough() -> None:
    assert end_of(StopOnReturn(10.0, window=30), total_reward=lambda _: 100.0)[0] == 150


def test_a_threshold_out_of_reach_does_not_stop() -> None:
    assert end_of(StopOnReturn(1000.0, window=1)) == (200, None)


@pytest.mark.parametrize(("threshold", "window"), [(float("nan"), 10), (1.0, 0)])
def test_a_return_that_means_nothing_is_refused(threshold: float, window: int) -> None:
    with pytest.raises(InvalidInputError, match=r"NaN|at least 1 episode"):
        StopOnReturn(threshold, window)


# Plateau


def test_stops_when_nothing_improved_for_the_patience() -> None:
    stop = StopOnPlateau("metrics:score", patience=30)
    training = ScriptedTraining([stop], 200, report_every=1)
    training.at_step = lambda now: training.run.record_metrics({"score": min(now, 50)})
    summary = training.conduct()
    assert training.timesteps == 80
    assert summary.stop_reason == "metrics:score has not improved on 50 for 30 steps"


def test_the_mean_return_is_the_default() -> None:
    steps, reason = end_of(StopOnPlateau(patience=40), total_reward=lambda _: 1.0)
    assert steps == 45  # the first episode ends at step 5
    assert reason is not None
    assert reason.startswith("mean_return has not improved on 1 ")


@pytest.mark.parametrize(("relative", "expected"), [(False, 200), (True, 31)])
def test_small_changes_do_not_count(relative: bool, expected: int) -> None:
    stop = StopOnPlateau("metrics:score", patience=30, min_delta=0.5, relative=relative)
    training = ScriptedTraining([stop], 200, report_every=1)
    training.at_step = lambda now: training.run.record_metrics({"score": 1000.0 + now})
    training.conduct()
    assert training.timesteps == expected


def test_a_loss_improves_downwards() -> None:
    assert end_of(StopOnPlateau("metrics:train/loss", patience=30, mode="min")) == (200, None)
    assert end_of(StopOnPlateau("metrics:train/loss", patience=30, mode="max"))[0] == 31


def test_reports_without_the_metric_are_passed_over() -> None:
    stop = StopOnPlateau("metrics:score", patience=30)
    training = ScriptedTraining([stop], 60, report_every=1)
    training.at_step = lambda now: training.run.record_metrics({"score": now} if now % 10 == 0 else {})
    assert training.conduct().stop_reason is None


@pytest.mark.parametrize("metric", ["mean_retrun", "timesteps", "loss", ""])
def test_a_metric_that_no_report_has_is_refused_at_once(metric: str) -> None:
    with pytest.raises(UnknownOptionError, match="metric of reports"):
        StopOnPlateau(metric, patience=10)


def test_a_misspelt_metric_of_the_algorithm_fails_with_the_first_of_its_group() -> None:
    with pytest.raises(UnknownOptionError, match=r"'train/los'\. Did you mean 'train/loss'"):
        end_of(StopOnPlateau("metrics:train/los", patience=100), at_step=fail_after(1))


def test_a_misspelt_group_fails_when_the_patience_ends() -> None:
    with pytest.raises(UnknownOptionError, match="'trian/loss'"):
        end_of(StopOnPlateau("metrics:trian/loss", patience=100), at_step=fail_after(100))


def fail_after(step: int) -> Callable[[int], None]:
    def check(now: int) -> None:
        if now > step:
            raise AssertionError(f"the misspelt name was not noticed by step {step}")

    return check


@pytest.mark.parametrize("options", [{"patience": 0}, {"patience": 1, "min_delta": -1.0}])
def test_a_plateau_that_means_nothing_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=r"at least 1 environment step|from 0"):
        StopOnPlateau(**options)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(UnknownOptionError, match="'maximum'"):
        StopOnPlateau(patience=1, mode="maximum")  # type: ignore[arg-type]  # the mistake under test


# Wall time


def test_stops_when_the_time_is_spent() -> None:
    steps, reason = end_of(StopOnWallTime(0.05), at_step=lambda _: time.sleep(0.01))
    assert 1 <= steps <= 6
    assert reason is not None
    assert reason.endswith("of 0.05 seconds are spent")


def test_time_spent_before_an_interruption_counts() -> None:
    first = StopOnWallTime(3600.0)
    ScriptedTraining([first], 10, at_step=lambda _: time.sleep(0.01)).conduct()
    spent = first.state_dict()["spent"]
    assert spent == 0.0  # closed: ready for another run
    second = StopOnWallTime(3600.0)
    second.load_state_dict({"spent": 3599.9999})
    assert end_of(second, at_step=lambda _: time.sleep(0.01))[0] == 1


def test_a_run_whose_time_is_spent_takes_no_step() -> None:
    stop = StopOnWallTime(10.0)
    stop.load_state_dict({"spent": 10.0})
    assert end_of(stop)[0] == 0


def test_the_time_stands_in_the_state_of_the_run() -> None:
    training = ScriptedTraining([StopOnWallTime(3600.0)], 5, at_step=lambda _: time.sleep(0.01))
    training.conduct()
    (entry,) = training.run.state_dict()["callbacks"]
    assert 0.05 <= entry["state"]["spent"] < 60.0


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_a_time_that_is_not_positive_is_refused(seconds: float) -> None:
    with pytest.raises(InvalidInputError, match="seconds must be positive"):
        StopOnWallTime(seconds)


# Across interruptions and runs


def collapsing_after(step: int) -> Callable[[int], float]:
    return lambda now: float(now) if now <= step else -1000.0


CONDITIONS: list[Callable[[], Callback]] = [
    lambda: StopOnReturn(80.0, window=11),
    lambda: StopOnPlateau(patience=33),
    lambda: StopOnPlateau("metrics:train/loss", patience=150),
]


@pytest.mark.parametrize("make", CONDITIONS)
@pytest.mark.parametrize("checkpoint", [0, 20, 60, 80])
def test_a_resumed_run_stops_where_the_whole_one_does(
    tmp_path: Path, make: Callable[[], Callback], checkpoint: int
) -> None:
    options: dict[str, Any] = {"total_reward": collapsing_after(110), "report_every": 3}
    whole = ScriptedTraining([make(), CheckpointSchedule(tmp_path, 20, keep_last=100)], 300, **options)
    reason = whole.conduct().stop_reason
    folder = tmp_path / f"step_{checkpoint:012d}"
    resumed = ScriptedTraining.resumed(folder, [make()], **options)
    assert resumed.conduct().stop_reason == reason
    assert reason is not None
    assert resumed.timesteps == whole.timesteps


@pytest.mark.parametrize("make", CONDITIONS)
def test_a_condition_serves_several_runs(make: Callable[[], Callback]) -> None:
    stop = make()
    assert end_of(stop, total_reward=collapsing_after(110)) == end_of(stop, total_reward=collapsing_after(110))
