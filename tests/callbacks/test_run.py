from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from rl_framework.callbacks.base import Callback, RunHandle
from rl_framework.callbacks.checkpoint_schedule import CheckpointSchedule
from rl_framework.callbacks.run import RunStopped, TrainingRun
from rl_framework.core.reports import Report
from rl_framework.errors import InvalidInputError
from tests.callbacks.scripted_runs import FailingToReport, Recorder, Remembering, ScriptedTraining


class StopAt(Callback):
    def __init__(self, step: int) -> None:
        self.every_timesteps = self.step = step

    def on_report(self, run: RunHandle, report: Report) -> None:
        if report.timesteps >= self.step:
            run.stop(f"step {self.step} is reached")


class FailingToClose(Recorder):
    def close(self) -> None:
        super().close()
        raise OSError("the disk is full")


# When reports come


def test_reports_fall_on_multiples_of_report_every() -> None:
    recorder = Recorder()
    ScriptedTraining([recorder], 100, report_every=30).conduct()
    assert recorder.steps == [30, 60, 90, 100]


def test_a_callback_gets_a_report_at_each_multiple_of_its_own_number() -> None:
    recorder = Recorder(every_timesteps=40)
    ScriptedTraining([recorder], 100, report_every=1000).conduct()
    assert recorder.steps == [40, 80, 100]


def test_a_multiple_that_falls_between_boundaries_is_reported_at_the_next_boundary() -> None:
    recorder = Recorder()
    ScriptedTraining([recorder], 64, stride=16, report_every=20).conduct()
    assert recorder.steps == [32, 48, 64]


def test_several_multiples_between_boundaries_give_one_report() -> None:
    recorder = Recorder()
    ScriptedTraining([recorder], 60, stride=30, report_every=7).conduct()
    assert recorder.steps == [30, 60]


def test_by_default_a_run_reports_each_hundredth() -> None:
    recorder = Recorder()
    ScriptedTraining([recorder], 1000, timesteps=500).conduct()
    assert recorder.steps == list(range(505, 1001, 5))


def test_a_run_without_steps_between_reports_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="at least 1, got 0"):
        ScriptedTraining([Recorder(every_timesteps=0)])


def test_a_report_tells_of_the_episodes_and_metrics_since_the_one_before() -> None:
    recorder = Recorder()
    ScriptedTraining([recorder], 20, report_every=10).conduct()
    first, second = recorder.reports
    assert [episode.total_reward for episode in first.episodes] == [5.0, 10.0]
    assert [episode.total_reward for episode in second.episodes] == [15.0, 20.0]
    assert first.metrics == {"train/loss": 1 / 10}
    assert (second.mean_return, second.mean_length, second.success_rate) == (12.5, 5.0, 0.5)
    assert second.steps_per_second > 0.0


def test_what_environments_measured_stands_beside_what_the_algorithm_says() -> None:
    asked: list[int] = []

    def measure() -> dict[str, float]:
        asked.append(training.timesteps)
        return {"environment/height": float(training.timesteps), "train/loss": -1.0}

    recorder = Recorder()
    training = ScriptedTraining([recorder], 25, report_every=10, statistics=measure)
    training.conduct()
    assert asked == [10, 20, 25]
    assert recorder.reports[0].metrics == {"environment/height": 10.0, "train/loss": 1 / 10}
    assert [report.metrics["environment/height"] for report in recorder.reports] == [10.0, 20.0, 25.0]


def test_means_go_over_the_last_100_episodes() -> None:
    recorder = Recorder()
    ScriptedTraining([recorder], 150, length=1, report_every=150).conduct()
    assert recorder.reports[-1].mean_return == pytest.approx(sum(range(51, 151)) / 100)


def test_before_the_first_episode_there_are_no_means() -> None:
    recorder = Recorder()
    ScriptedTraining([recorder], 4, report_every=4).conduct()
    assert (recorder.reports[0].mean_return, recorder.reports[0].success_rate) == (None, None)


# How a run goes


def test_a_run_calls_its_callbacks_in_order() -> None:
    recorder = Recorder()
    ScriptedTraining([recorder], 10, report_every=5).conduct()
    assert recorder.verbs == ["start", "report", "report", "end", "close"]


def test_the_summary_counts_this_call() -> None:
    summary = ScriptedTraining([], 25, timesteps=10, stride=10).conduct()
    assert (summary.requested_timesteps, summary.taken_timesteps, summary.total_timesteps) == (15, 20, 30)
    assert (summary.extra_timesteps, summary.episodes, summary.stop_reason) == (5, 4, None)
    assert summary.mean_return == pytest.approx((15 + 20 + 25 + 30) / 4)


def test_a_callback_can_stop_the_run() -> None:
    recorder = Recorder()
    training = ScriptedTraining([StopAt(40), recorder], 100, report_every=1000)
    summary = training.conduct()
    assert (training.timesteps, summary.stop_reason) == (40, "step 40 is reached")
    assert recorder.verbs == ["start", "report", "end", "close"]


def test_a_stop_before_the_first_step_takes_no_step() -> None:
    class StopAtStart(Callback):
        def on_training_start(self, run: RunHandle) -> None:
            run.stop("enough")

    training = ScriptedTraining([StopAtStart()])
    assert training.conduct().stop_reason == "enough"
    assert training.timesteps == 0


def test_a_run_that_reaches_its_target_was_not_stopped() -> None:
    assert ScriptedTraining([StopAt(100)], 100).conduct().stop_reason is None


def test_a_loop_that_swallows_the_stop_is_told_again_at_the_next_boundary() -> None:
    run = TrainingRun(timesteps=0, target_timesteps=10, callbacks=[StopAt(3)], save=lambda _: None)
    raised = []

    def stubborn() -> None:
        for timesteps in range(1, 6):
            with contextlib.suppress(RunStopped):
                run.at_boundary(timesteps)
                continue
            raised.append(timesteps)

    run.conduct(stubborn)
    assert raised == [3, 4, 5]


def test_warnings_stand_in_the_summary_and_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    training = ScriptedTraining([])
    training.run.warn("the tracker is away")
    assert training.conduct().warnings == ("the tracker is away",)
    assert "the tracker is away" in caplog.text


def test_checkpoints_are_written_after_the_other_callbacks_have_heard(tmp_path: Path) -> None:
    stop = Remembering()
    ScriptedTraining([CheckpointSchedule(tmp_path, 10), stop], 10, report_every=10).conduct()
    resumed = Remembering()
    ScriptedTraining.resumed(tmp_path / "step_000000000010", [CheckpointSchedule(tmp_path, 10), resumed])
    assert resumed.seen == [10]


# What goes wrong


def test_an_error_of_the_loop_closes_the_callbacks_and_propagates() -> None:
    recorder = Recorder()

    def fail(step: int) -> None:
        if step == 7:
            raise ZeroDivisionError("deliberate")

    with pytest.raises(ZeroDivisionError, match="deliberate"):
        ScriptedTraining([recorder], 100, at_step=fail, report_every=5).conduct()
    assert recorder.verbs == ["start", "report", "close"]


def test_an_error_of_a_callback_propagates_and_closes_the_others() -> None:
    recorder = Recorder()
    with pytest.raises(ZeroDivisionError, match="deliberate"):
        ScriptedTraining([FailingToReport(), recorder]).conduct()
    assert recorder.verbs == ["start", "close"]


def test_a_failure_to_close_does_not_hide_the_error_before_it() -> None:
    with pytest.raises(ZeroDivisionError, match="deliberate"):
        ScriptedTraining([FailingToClose(), FailingToReport()]).conduct()


def test_a_failure_to_close_is_raised_once_all_are_closed() -> None:
    recorder = Recorder()
    with pytest.raises(OSError, match="the disk is full"):
        ScriptedTraining([FailingToClose(), recorder]).conduct()
    assert recorder.verbs[-1] == "close"
