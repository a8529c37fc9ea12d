"""A training run as seen from outside: when to report, to whom, and how it ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rl_framework.callbacks.base import Callback
from rl_framework.callbacks.callback_states import collect_states, restore_states
from rl_framework.callbacks.checkpoint_schedule import CheckpointSchedule
from rl_framework.callbacks.episode_window import EpisodeWindow
from rl_framework.callbacks.interrupts import InterruptWatch
from rl_framework.core.reports import EpisodeSummary, Report, TrainingSummary
from rl_framework.errors import InvalidInputError

logger = logging.getLogger(__name__)


class RunStopped(Exception):
    """Leaves a training loop from within `TrainingRun.at_boundary`; `TrainingRun.conduct` takes it in."""


class TrainingRun:
    """Tells callbacks about a run, and ends the run when one of them (or Ctrl-C) asks for it.

    The loop that trains calls `record_episodes` and `record_metrics` as things happen, and `at_boundary` whenever
    the run could be saved and continued exactly. Callbacks hear of a boundary if `timesteps` crossed a multiple of
    `report_every`, or of any callback's `every_timesteps`, since the boundary before: this depends on steps only,
    never on the clock, so a resumed run reports at the same steps as one that was not interrupted. Checkpoint
    schedules hear of each report after all other callbacks, so that what they save includes what the others
    learned from it. One object conducts one run.

    Attributes:
        timesteps: Environment steps in the agent's life, as of the latest boundary.
        target_timesteps: The value of `timesteps` at which this run ends.
    """

    def __init__(
        self,
        *,
        timesteps: int,
        target_timesteps: int,
        callbacks: Sequence[Callback],
        save: Callable[[Path], None],
        resume_level: Callable[[], str] = lambda: "exact",
        statistics: Callable[[], Mapping[str, float]] = dict,
        report_every: int | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            timesteps: Environment steps in the agent's life, now.
            target_timesteps: The value of `timesteps` at which this run ends.
            callbacks: Those who watch.
            save: Fills the given folder with the agent and everything that an exact resume needs.
            resume_level: How exactly the run could be continued if it were saved now.
            statistics: What the environments measured since it was last asked; asked once for each report.
            report_every: Steps between the run's own reports; a hundredth of the run, at most 1000, unless given.

        Raises:
            InvalidInputError: A number of steps between reports is not positive.
        """
        self.timesteps = timesteps
        self.target_timesteps = target_timesteps
        self._save = save
        self._resume_level = resume_level
        self._statistics = statistics
        self._callbacks = sorted(callbacks, key=lambda callback: isinstance(callback, CheckpointSchedule))
        self._given_report_every = report_every
        self._first_timesteps = self._call_start = timesteps
        self._window = EpisodeWindow()
        self._n_episodes = self._n_episodes_before = 0
        self._episodes: list[EpisodeSummary] = []
        self._metrics: dict[str, float] = {}
        self._warnings: list[str] = []
        self._stop_reason: str | None = None
        self._interrupts = InterruptWatch(self._heed_interrupt)
        self._started = time.perf_counter()
        self._last_reported: int | None = None
        self._state_at_end: dict[str, Any] | None = None
        self._next_report = self._next_visit = timesteps
        self._plan_report()

    @property
    def report_every(self) -> int:
        """Steps between the run's own reports."""
        if self._given_report_every is not None:
            return self._given_report_every
        return max(1, min(1000, (self.target_timesteps - self._first_timesteps) // 100))

    # What the training loop calls

    def record_episodes(self, episodes: Sequence[EpisodeSummary]) -> None:
        """Take in episodes that have just ended."""
        self._window.extend(episodes)
        self._episodes.extend(episodes)
        self._n_episodes += len(episodes)

    def record_metrics(self, metrics: Mapping[str, float]) -> None:
        """Take in the algorithm's own numbers for the next report; of one name the latest counts."""
        self._metrics.update(metrics)

    def at_boundary(self, timesteps: int) -> None:
        """Say that the run has come to a point from which it can be continued exactly.

        Args:
            timesteps: Environment steps in the agent's life, now.

        Raises:
            RunStopped: A callback or Ctrl-C asked for the end. Let it pass through to `conduct`.
        """
        self.timesteps = timesteps
        if timesteps < self._next_visit:
            return
        if timesteps >= self._next_report:
            self._report()
            self._plan_report()
        if self._stop_reason is not None:
            raise RunStopped(self._stop_reason)

    def conduct(self, learn: Callable[[], None]) -> TrainingSummary:
        """Run a training loop with everything around it.

        The first Ctrl-C ends the loop at its next boundary; callbacks then get their last report and the end of
        the run as usual (so the checkpoint is written) before KeyboardInterrupt is raised. The second one raises
        it at once.

        Args:
            learn: The loop. It calls `at_boundary` and returns when `target_timesteps` are reached.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed.
            Exception: Whatever the loop or a callback raised, after all callbacks were closed.
        """
        with self._interrupts, self._closing_callbacks():
            self._begin()
            self._loop(learn)
            summary = self._finish()
        if self._interrupts.pressed:
            raise KeyboardInterrupt
        return replace(summary, warnings=tuple(self._warnings))

    # What callbacks call

    def stop(self, reason: str) -> None:
        """End the run at this point, or else at the next boundary; the first reason given counts."""
        if self._stop_reason is None:
            self._stop_reason = reason
        self._next_visit = 0

    def save_agent(self, path: Path) -> None:
        """Fill a folder with the agent and everything that an exact resume needs.

        Raises:
            ArchiveError: It could not be written.
        """
        self._save(path)

    def resume_level(self) -> str:
        """How exactly the run could be continued if it were saved now."""
        return self._resume_level()

    def warn(self, message: str) -> None:
        """Note something that went wrong without ending the run; it is logged and stands in the summary."""
        logger.warning("%s", message)
        self._warnings.append(message)

    # Interruption and resumption

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on as this one would, as a plain tree.

        Once the run has left its loop, this is the state in which it left it: before a last report that fell on no
        multiple (after Ctrl-C, say), which an uninterrupted run would not have had, and before callbacks were closed.
        """
        if self._state_at_end is not None:
            return self._state_at_end
        return {
            "target_timesteps": self.target_timesteps,
            "first_timesteps": self._first_timesteps,
            "report_every": self._given_report_every,
            "n_episodes": self._n_episodes,
            "window": self._window.state_dict(),
            "episodes": [asdict(episode) for episode in self._episodes],
            "metrics": {name: float(value) for name, value in self._metrics.items()},
            "callbacks": collect_states(self._callbacks),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with an interrupted run; call it before `conduct`.

        The state of a callback that is not there any more is dropped with a warning; new callbacks start afresh.
        """
        self.target_timesteps = int(state["target_timesteps"])
        self._first_timesteps = int(state["first_timesteps"])
        if self._given_report_every is None:
            self._given_report_every = state["report_every"]
        self._n_episodes = self._n_episodes_before = int(state["n_episodes"])
        self._window.load_state_dict(state["window"])
        self._episodes = [EpisodeSummary(**episode) for episode in state["episodes"]]
        self._metrics = dict(state["metrics"])
        for name in restore_states(self._callbacks, state["callbacks"]):
            self.warn(f"The run was saved with a callback {name} that is not there any more; its state is dropped.")
        self._plan_report()

    # The course of a run

    def _begin(self) -> None:
        self._started = time.perf_counter()
        self._call_start = self.timesteps
        for callback in self._callbacks:
            callback.on_training_start(self)
        self._plan_report()

    def _loop(self, learn: Callable[[], None]) -> None:
        if self._stop_reason is not None:
            return
        try:
            learn()
        except RunStopped:
            return

    def _finish(self) -> TrainingSummary:
        self._state_at_end = self.state_dict()
        if self.timesteps != self._last_reported or self._episodes or self._metrics:
            self._report()
        summary = self._summarise()
        for callback in self._callbacks:
            callback.on_training_end(self, summary)
        return summary

    def _summarise(self) -> TrainingSummary:
        return TrainingSummary(
            requested_timesteps=self.target_timesteps - self._call_start,
            taken_timesteps=self.timesteps - self._call_start,
            total_timesteps=self.timesteps,
            episodes=self._n_episodes - self._n_episodes_before,
            mean_return=self._window.mean_return,
            duration_seconds=time.perf_counter() - self._started,
            stop_reason=self._stop_reason if self.timesteps < self.target_timesteps else None,
            resume_level=self.resume_level(),
            warnings=tuple(self._warnings),
        )

    def _report(self) -> None:
        report = self._make_report()
        self._episodes, self._metrics = [], {}
        self._last_reported = self.timesteps
        for callback in self._callbacks:
            callback.on_report(self, report)

    def _make_report(self) -> Report:
        elapsed = time.perf_counter() - self._started
        return Report(
            timesteps=self.timesteps,
            target_timesteps=self.target_timesteps,
            episodes=tuple(self._episodes),
            mean_return=self._window.mean_return,
            mean_length=self._window.mean_length,
            success_rate=self._window.success_rate,
            steps_per_second=(self.timesteps - self._call_start) / max(elapsed, 1e-9),
            elapsed_seconds=elapsed,
            metrics={**self._statistics(), **self._metrics},
        )

    def _plan_report(self) -> None:
        """Find the next step at which somebody wants to hear of the run."""
        periods = {self.report_every}
        periods.update(each.every_timesteps for each in self._callbacks if each.every_timesteps is not None)
        if min(periods) < 1:
            raise InvalidInputError(f"Steps between reports must be at least 1, got {min(periods)}.")
        self._next_report = self._next_visit = min((self.timesteps // period + 1) * period for period in periods)
        if self._stop_reason is not None:
            self._next_visit = 0

    def _heed_interrupt(self) -> None:
        self.stop("interrupted by Ctrl-C")

    @contextmanager
    def _closing_callbacks(self) -> Iterator[None]:
        """Close all callbacks after the block; a failure to close never hides what went wrong before it."""
        try:
            yield
        except BaseException:
            for error in _close_each(self._callbacks):
                self.warn(f"A callback could not be closed: {error!r}")
            raise
        for error in _close_each(self._callbacks):
            raise error


def _close_each(callbacks: Sequence[Callback]) -> list[Exception]:
    """Close every callback and give what they raised."""
    outcomes = [_close(callback) for callback in callbacks]
    return [error for error in outcomes if error is not None]


def _close(callback: Callback) -> Exception | None:
    try:
        callback.close()
    except Exception as error:  # noqa: BLE001  (raised by the caller once the others are closed, too)
        return error
    return None
