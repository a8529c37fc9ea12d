from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from rl_framework.callbacks.base import RunHandle
from rl_framework.callbacks.checkpoint_schedule import CheckpointSchedule
from rl_framework.callbacks.stop_conditions import StopOnReturn
from rl_framework.core.reports import EpisodeSummary, Report, TrainingSummary
from tests.callbacks.scripted_runs import FailingToReport, Recorder, Remembering, ScriptedTraining


class OtherRemembering(Remembering):
    pass


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


# Ctrl-C


def interrupt_at(step: int) -> Any:
    return lambda now: press_ctrl_c() if now == step else None


def test_ctrl_c_ends_at_the_next_boundary_with_a_last_report(capsys: pytest.CaptureFixture[str]) -> None:
    recorder = Recorder()
    training = ScriptedTraining([recorder], 100, at_step=interrupt_at(33), report_every=20)
    with pytest.raises(KeyboardInterrupt):
        training.conduct()
    assert (training.timesteps, recorder.steps) == (33, [20, 33])
    assert recorder.verbs == ["start", "report", "report", "end", "close"]
    assert recorder.summaries[0].stop_reason == "interrupted by Ctrl-C"
    assert "Press Ctrl-C again" in capsys.readouterr().err


def test_ctrl_c_at_a_step_that_is_due_reports_it_once() -> None:
    recorder = Recorder()
    with pytest.raises(KeyboardInterrupt):
        ScriptedTraining([recorder], 100, at_step=interrupt_at(20), report_every=20).conduct()
    assert recorder.steps == [20]


def test_ctrl_c_writes_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        ScriptedTraining([CheckpointSchedule(tmp_path, 20)], 100, at_step=interrupt_at(33)).conduct()
    assert (tmp_path / "step_000000000033").is_dir()


def test_a_second_ctrl_c_ends_at_once() -> None:
    recorder = Recorder()

    def twice(step: int) -> None:
        press_ctrl_c()
        press_ctrl_c()

    training = ScriptedTraining([recorder], 100, at_step=twice)
    with pytest.raises(KeyboardInterrupt):
        training.conduct()
    assert (training.timesteps, recorder.verbs) == (1, ["start", "close"])


def test_ctrl_c_in_the_last_step_still_interrupts_after_everything_is_done() -> None:
    recorder = Recorder()
    with pytest.raises(KeyboardInterrupt):
        ScriptedTraining([recorder], 100, at_step=interrupt_at(100)).conduct()
    assert recorder.summaries[0].stop_reason is None


def test_ctrl_c_while_the_last_checkpoint_is_written_lets_it_be_written() -> None:
    class Slow(Recorder):
        def on_training_end(self, run: RunHandle, summary: TrainingSummary) -> None:
            press_ctrl_c()
            super().on_training_end(run, summary)

    slow = Slow()
    with pytest.raises(KeyboardInterrupt):
        ScriptedTraining([slow]).conduct()
    assert slow.verbs[-2:] == ["end", "close"]


def test_the_error_of_the_loop_wins_over_ctrl_c() -> None:
    def fail(step: int) -> None:
        press_ctrl_c()
        raise ZeroDivisionError("deliberate")

    with pytest.raises(ZeroDivisionError):
        ScriptedTraining([], at_step=fail).conduct()


class BusyTerminal:
    """A stream that is in the middle of another write."""

    def write(self, text: str) -> int:
        raise RuntimeError("reentrant call")


@pytest.mark.parametrize("stream", [BusyTerminal(), None])
def test_a_stream_that_cannot_be_written_to_does_not_spoil_the_end(
    monkeypatch: pytest.MonkeyPatch, stream: Any
) -> None:
    recorder = Recorder()
    training = ScriptedTraining([recorder], 100, at_step=interrupt_at(33))
    monkeypatch.setattr("sys.stderr", stream)
    with pytest.raises(KeyboardInterrupt):
        training.conduct()
    assert recorder.verbs[-2:] == ["end", "close"]


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL, signal.default_int_handler, lambda *_: None])
def test_the_previous_handler_comes_back(handler: Any) -> None:
    before = signal.signal(signal.SIGINT, handler)
    try:
        ScriptedTraining([]).conduct()
        with pytest.raises(ZeroDivisionError):
            ScriptedTraining([FailingToReport()]).conduct()
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_process_that_ignores_ctrl_c_keeps_ignoring_it() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert ScriptedTraining([], 10, at_step=lambda _: press_ctrl_c()).conduct().stop_reason is None
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_run_in_another_thread_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[Any] = []
    training = ScriptedTraining([], 10, at_step=lambda _: seen.append(signal.getsignal(signal.SIGINT)))
    thread = threading.Thread(target=training.conduct)
    thread.start()
    thread.join(timeout=30)
    assert training.timesteps == 10
    assert set(seen) == {before}


# Interruption and resumption


def test_a_resumed_run_reports_at_the_same_steps_with_the_same_numbers(tmp_path: Path) -> None:
    whole, after = Recorder(), Recorder()
    ScriptedTraining([whole], 500).conduct()
    with pytest.raises(KeyboardInterrupt):
        ScriptedTraining([CheckpointSchedule(tmp_path, 1000)], 500, at_step=interrupt_at(333)).conduct()
    resumed = ScriptedTraining.resumed(tmp_path / "step_000000000333", [after], target=1)
    resumed.conduct()
    later = [report for report in whole.reports if report.timesteps > 333]
    assert [numbers(report) for report in after.reports] == [numbers(report) for report in later]


def numbers(report: Report) -> tuple[Any, ...]:
    return (
        report.timesteps, report.target_timesteps, report.episodes, report.mean_return, report.mean_length,
        report.success_rate, report.metrics,
    )  # fmt: skip


def test_the_summary_of_a_resumed_run_counts_from_the_resumption(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        ScriptedTraining([CheckpointSchedule(tmp_path)], 100, at_step=interrupt_at(40)).conduct()
    summary = ScriptedTraining.resumed(tmp_path / "step_000000000040", []).conduct()
    assert (summary.requested_timesteps, summary.taken_timesteps, summary.episodes) == (60, 60, 12)


def test_the_report_after_ctrl_c_leaves_no_trace_in_what_is_resumed(tmp_path: Path) -> None:
    memory = Remembering()
    with pytest.raises(KeyboardInterrupt):
        ScriptedTraining(
            [memory, CheckpointSchedule(tmp_path)], 100, at_step=interrupt_at(33), report_every=20
        ).conduct()
    assert memory.seen == [20, 33]
    resumed = Remembering()
    ScriptedTraining.resumed(tmp_path / "step_000000000033", [resumed], target=100).conduct()
    assert resumed.seen == [20, 40, 60, 80, 100]


def test_the_state_after_the_end_is_the_one_before_callbacks_were_closed() -> None:
    stop = StopOnReturn(1e9)
    training = ScriptedTraining([stop], 100)
    training.conduct()
    assert training.run.state_dict()["callbacks"][0]["state"]["returns"] == list(range(5, 101, 5))


def test_states_find_their_callbacks_by_class_and_order() -> None:
    first, second, other = Remembering(), Remembering(), OtherRemembering()
    first.seen, second.seen, other.seen = [1], [2], [3]
    state = ScriptedTraining([first, other, second]).run.state_dict()
    fresh = [OtherRemembering(), Recorder(), Remembering(), Remembering()]
    ScriptedTraining(fresh).run.load_state_dict(state)
    assert [each.seen for each in fresh if isinstance(each, Remembering)] == [[3], [1], [2]]


def test_the_state_of_a_callback_that_is_gone_is_dropped_with_a_warning() -> None:
    state = ScriptedTraining([Remembering()]).run.state_dict()
    training = ScriptedTraining([OtherRemembering()])
    training.run.load_state_dict(state)
    (warning,) = training.conduct().warnings
    assert "Remembering that is not there any more" in warning


def test_a_given_number_of_steps_between_reports_survives() -> None:
    state = ScriptedTraining([], report_every=7).run.state_dict()
    training = ScriptedTraining([])
    training.run.load_state_dict(state)
    assert training.run.report_every == 7


def test_episodes_that_no_report_has_told_yet_survive() -> None:
    recorder = Recorder()
    before = ScriptedTraining([], 100).run
    before.record_episodes([EpisodeSummary(row=1, total_reward=3.0, length=2, seed=5)])
    after = ScriptedTraining([recorder], 10, report_every=10)
    after.run.load_state_dict({**before.state_dict(), "target_timesteps": 10})
    after.conduct()
    assert recorder.reports[0].episodes[0] == EpisodeSummary(row=1, total_reward=3.0, length=2, seed=5)
