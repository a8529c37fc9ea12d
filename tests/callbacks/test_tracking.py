from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from rl_framework.callbacks.tracking import TrackerCallback
from rl_framework.connectors.base import Tracker
from rl_framework.connectors.tensorboard import TensorBoardTracker
from rl_framework.errors import ConnectorError, InvalidInputError
from tests.callbacks.scripted_runs import Recorder, ScriptedTraining


class ListTracker(Tracker):
    def __init__(self, fails: bool = False) -> None:
        self.entries: list[tuple[int, dict[str, float]]] = []
        self.fails = fails
        self.flushed = self.closed = False

    def log_value(self, name: str, value: float, step: int | None = None) -> None:
        raise NotImplementedError

    def log_values_with_step(self, values: Mapping[str, float], step: int) -> None:
        if self.fails:
            raise ConnectorError("the server is away")
        self.entries.append((step, dict(values)))

    def flush(self) -> None:
        self.flushed = True

    def close(self) -> None:
        self.closed = True


def test_the_names_are_those_of_stable_baselines() -> None:
    tracker = ListTracker()
    ScriptedTraining([TrackerCallback(tracker, every_timesteps=50)], 100).conduct()
    step, values = tracker.entries[0]
    assert step == 50
    assert values["rollout/ep_rew_mean"] == pytest.approx(27.5)
    assert (values["rollout/ep_len_mean"], values["rollout/success_rate"]) == (5.0, 0.5)
    assert (values["time/total_timesteps"], values["train/loss"]) == (50.0, 1 / 50)
    assert values["time/fps"] > 0.0


def test_by_default_there_are_a_hundred_entries() -> None:
    tracker = ListTracker()
    ScriptedTraining([Recorder(every_timesteps=1), TrackerCallback(tracker)], 1000).conduct()
    assert [step for step, _ in tracker.entries] == list(range(10, 1001, 10))


def test_what_is_not_known_is_left_out() -> None:
    tracker = ListTracker()
    ScriptedTraining([TrackerCallback(tracker)], 3, report_every=3).conduct()
    assert "rollout/ep_rew_mean" not in tracker.entries[0][1]


def test_reports_that_others_asked_for_do_not_flood_the_tracker() -> None:
    tracker = ListTracker()
    every_step = Recorder(every_timesteps=1)
    ScriptedTraining([every_step, TrackerCallback(tracker, every_timesteps=30)], 100).conduct()
    assert [step for step, _ in tracker.entries] == [30, 60, 90, 100]
    assert len(every_step.steps) == 100


def test_metrics_between_two_entries_are_not_lost() -> None:
    tracker = ListTracker()
    training = ScriptedTraining([Recorder(every_timesteps=1), TrackerCallback(tracker, every_timesteps=30)], 30)
    training.at_step = lambda step: training.run.record_metrics({"seldom": 7.0} if step == 13 else {})
    training.conduct()
    assert tracker.entries[0][1]["seldom"] == 7.0


def test_a_tracker_that_fails_never_ends_the_training() -> None:
    summary = ScriptedTraining([TrackerCallback(ListTracker(fails=True), every_timesteps=10)], 100).conduct()
    assert summary.taken_timesteps == 100
    first, last = summary.warnings
    assert "the server is away" in first
    assert "10 times the tracker ListTracker did not take what was reported" in last


def test_the_tracker_is_flushed_and_left_open() -> None:
    tracker = ListTracker()
    ScriptedTraining([TrackerCallback(tracker)]).conduct()
    assert (tracker.flushed, tracker.closed) == (True, False)


def test_a_tracker_serves_several_runs() -> None:
    tracker = ListTracker()
    callback = TrackerCallback(tracker, every_timesteps=50)
    ScriptedTraining([callback], 100).conduct()
    ScriptedTraining([callback], 200, timesteps=100).conduct()
    assert [step for step, _ in tracker.entries] == [50, 100, 150, 200]


def test_a_number_out_of_range_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="at least 1, got 0"):
        TrackerCallback(ListTracker(), every_timesteps=0)


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with TensorBoardTracker(tmp_path) as tracker:
        ScriptedTraining([TrackerCallback(tracker, every_timesteps=50)], 100).conduct()
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    curve = events.Scalars("rollout/ep_rew_mean")
    assert [(event.step, event.value) for event in curve] == [(50, 27.5), (100, 52.5)]
