"""Writes what a run reports to a tracker, under the key names of Stable-Baselines3."""

from __future__ import annotations

from collections.abc import Callable

from typing_extensions import override

from rl_framework.callbacks.base import Callback, RunHandle
from rl_framework.connectors.base import Tracker
from rl_framework.core.reports import Report, TrainingSummary
from rl_framework.errors import InvalidInputError, RLFrameworkError


class TrackerCallback(Callback):
    """Hands the numbers of reports to a tracker, step by step.

    What the tracker cannot take never ends the training: it becomes a warning of the run. Between two entries at
    least `every_timesteps` steps pass, however often others want reports; the last report is always written.
    """

    def __init__(self, tracker: Tracker, *, every_timesteps: int | None = None) -> None:
        """Watch for a tracker.

        Args:
            tracker: Where the numbers go; whoever made it closes it.
            every_timesteps: Environment steps between entries; a hundredth of the run, at most 1000, unless given.

        Raises:
            InvalidInputError: The number is not positive.
        """
        if every_timesteps is not None and every_timesteps < 1:
            raise InvalidInputError(f"every_timesteps must be at least 1, got {every_timesteps}.")
        self._tracker = tracker
        self._given_period = every_timesteps
        self._period = self._next = 1
        self._n_lost = 0
        self._metrics: dict[str, float] = {}
        self._pending: Report | None = None

    def on_training_start(self, run: RunHandle) -> None:
        """Fix the rhythm, which depends on the run's target only, so that a resumed run keeps it."""
        self._period = self._given_period or max(1, min(1000, run.target_timesteps // 100))
        self.every_timesteps = self._period
        self._next = (run.timesteps // self._period + 1) * self._period

    def on_report(self, run: RunHandle, report: Report) -> None:
        """Write an entry if it is time for one."""
        self._metrics.update(report.metrics)
        self._pending = report
        if report.timesteps >= self._next:
            self._write(run, report)
            self._next = (report.timesteps // self._period + 1) * self._period

    @override
    def on_training_end(self, run: RunHandle, summary: TrainingSummary) -> None:
        """Write what is still open, and let the tracker hand it over."""
        if self._pending is not None:
            self._write(run, self._pending)
        self._guard(run, self._tracker.flush)
        if self._n_lost:
            run.warn(f"{self._n_lost} times the tracker {type(self._tracker).__name__} did not take what was reported.")

    def close(self) -> None:
        """Be ready for another run."""
        self._n_lost = 0
        self._metrics, self._pending = {}, None

    def _write(self, run: RunHandle, report: Report) -> None:
        values = {**_values_of(report), **self._metrics}
        self._guard(run, lambda: self._tracker.log_values_with_step(values, report.timesteps))
        self._metrics, self._pending = {}, None

    def _guard(self, run: RunHandle, action: Callable[[], None]) -> None:
        """Do something with the tracker; only the first failure is told at once."""
        try:
            action()
        except (RLFrameworkError, OSError) as error:
            self._n_lost += 1
            if self._n_lost == 1:
                run.warn(f"The tracker {type(self._tracker).__name__} failed; training goes on: {error}")


def _values_of(report: Report) -> dict[str, float]:
    """The numbers of a report that are known, under the names that Stable-Baselines3 logs them by."""
    values = {
        "rollout/ep_rew_mean": report.mean_return,
        "rollout/ep_len_mean": report.mean_length,
        "rollout/success_rate": report.success_rate,
        "time/fps": report.steps_per_second,
        "time/total_timesteps": float(report.timesteps),
        "time/time_elapsed": report.elapsed_seconds,
    }
    return {name: value for name, value in values.items() if value is not None}
