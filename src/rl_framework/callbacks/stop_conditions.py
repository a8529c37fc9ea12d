"""Reasons to end a run early. Their memory survives an interruption, so a resumed run stops where it would have."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import Any, Literal

from typing_extensions import override

from rl_framework.callbacks.base import Callback, RunHandle
from rl_framework.callbacks.episode_window import EpisodeWindow
from rl_framework.core.reports import Report
from rl_framework.errors import InvalidInputError, UnknownOptionError

REPORT_METRICS = ("mean_return", "mean_length", "success_rate", "steps_per_second")
ALGORITHM_PREFIX = "metrics:"


class StopOnReturn(Callback):
    """Stops once the mean total reward of the last `window` episodes reaches a threshold."""

    def __init__(self, threshold: float, window: int = 100) -> None:
        """Set the goal.

        Args:
            threshold: Mean total reward of an episode that is good enough.
            window: Number of episodes to average over; the run does not stop before so many have ended.

        Raises:
            InvalidInputError: The threshold is not a number, or the window is not positive.
        """
        if math.isnan(threshold):
            raise InvalidInputError("The threshold of StopOnReturn must be a number, got NaN.")
        if window < 1:
            raise InvalidInputError(f"window must be at least 1 episode, got {window}.")
        self.threshold = threshold
        self._window = EpisodeWindow(window)

    def on_report(self, run: RunHandle, report: Report) -> None:
        """Look at the episodes that have ended."""
        self._window.extend(report.episodes)
        mean = self._window.mean_return
        if mean is not None and self._window.is_full and mean >= self.threshold:
            run.stop(
                f"the mean return {mean:.6g} of the last {len(self._window)} episodes reached {self.threshold:.6g}"
            )

    def close(self) -> None:
        """Be ready for another run."""
        self._window.clear()

    def state_dict(self) -> dict[str, Any]:
        """The episodes in the window."""
        return self._window.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._window.load_state_dict(state)


@dataclass(slots=True)
class _PlateauMemory:
    """The best value so far, and the step at which it was reached (or waiting began)."""

    best: float | None = None
    improved_at: int | None = None


class StopOnPlateau(Callback):
    """Stops once a metric has not improved for a number of environment steps."""

    def __init__(
        self,
        metric: str = "mean_return",
        *,
        patience: int,
        min_delta: float = 0.0,
        relative: bool = False,
        mode: Literal["max", "min"] = "max",
    ) -> None:
        """Say what counts as progress.

        Args:
            metric: `mean_return`, `mean_length`, `success_rate` or `steps_per_second` of the reports, or
                `metrics:<name>` for what the algorithm reports under that name, e.g. `metrics:train/loss`.
            patience: Environment steps without improvement after which the run stops.
            min_delta: A change counts as improvement if it is larger than this.
            relative: Measure `min_delta` as a share of the best value's magnitude.
            mode: Whether larger or smaller values are better.

        Raises:
            UnknownOptionError: No report has such a metric.
            InvalidInputError: A number is out of range.
        """
        if not metric.startswith(ALGORITHM_PREFIX) and metric not in REPORT_METRICS:
            raise UnknownOptionError.of("metric of reports", metric, (*REPORT_METRICS, f"{ALGORITHM_PREFIX}<name>"))
        if mode not in ("max", "min"):
            raise UnknownOptionError.of("mode of StopOnPlateau", mode, ("max", "min"))
        if patience < 1:
            raise InvalidInputError(f"patience must be at least 1 environment step, got {patience}.")
        if not 0.0 <= min_delta < math.inf:
            raise InvalidInputError(f"min_delta must be a finite number from 0, got {min_delta}.")
        self.metric, self.patience, self.min_delta, self.relative = metric, patience, min_delta, relative
        self._sign = 1.0 if mode == "max" else -1.0
        self._memory = _PlateauMemory()

    def on_training_start(self, run: RunHandle) -> None:
        """Start waiting."""
        if self._memory.improved_at is None:
            self._memory.improved_at = run.timesteps

    def on_report(self, run: RunHandle, report: Report) -> None:
        """Look at the metric."""
        memory, value = self._memory, self._read(report)
        if value is not None and self._improves(value):
            memory.best, memory.improved_at = value, report.timesteps
        waited = report.timesteps - (memory.improved_at or 0)
        if memory.best is None:
            self._check_name(report, waited)
        elif waited >= self.patience:
            run.stop(f"{self.metric} has not improved on {memory.best:.6g} for {waited} steps")

    def close(self) -> None:
        """Be ready for another run."""
        self._memory = _PlateauMemory()

    def state_dict(self) -> dict[str, Any]:
        """The best value, and when it was reached."""
        return asdict(self._memory)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._memory = _PlateauMemory(**state)

    def _read(self, report: Report) -> float | None:
        if self.metric.startswith(ALGORITHM_PREFIX):
            value = report.metrics.get(self.metric.removeprefix(ALGORITHM_PREFIX))
        else:
            value = getattr(report, self.metric)
        return None if value is None or math.isnan(value) else float(value)

    def _improves(self, value: float) -> bool:
        best = self._memory.best
        if best is None:
            return True
        margin = self.min_delta * (abs(best) if self.relative else 1.0)
        return self._sign * (value - best) > margin

    def _check_name(self, report: Report, waited: int) -> None:
        """Complain of a name that the algorithm does not know.

        It is unknown if others of its group (`train/...`) are there and it is not, or if it stays away for as
        long as the patience lasts; an algorithm that only warms up reports nothing of the group at first.
        """
        name, known = self.metric.removeprefix(ALGORITHM_PREFIX), report.metrics
        if name == self.metric or name in known or not known:
            return
        group = name.rpartition("/")[0]
        if waited >= self.patience or any(other.rpartition("/")[0] == group for other in known):
            raise UnknownOptionError.of("metric of the algorithm", name, known)


class StopOnWallTime(Callback):
    """Stops at the first report after a number of seconds of training, counted across interruptions."""

    def __init__(self, seconds: float) -> None:
        """Set the budget.

        Args:
            seconds: Wall time in seconds.

        Raises:
            InvalidInputError: It is not positive.
        """
        if not seconds > 0.0:
            raise InvalidInputError(f"seconds must be positive, got {seconds}.")
        self.seconds = seconds
        self._spent_before = 0.0
        self._started: float | None = None

    def on_training_start(self, run: RunHandle) -> None:
        """Start the clock."""
        self._started = time.perf_counter()
        self._check(run)

    @override
    def on_report(self, run: RunHandle, report: Report) -> None:
        """Look at the clock."""
        self._check(run)

    def close(self) -> None:
        """Be ready for another run."""
        self._spent_before, self._started = 0.0, None

    def state_dict(self) -> dict[str, Any]:
        """The seconds spent so far."""
        return {"spent": self._now_spent()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._spent_before = float(state["spent"])

    def _check(self, run: RunHandle) -> None:
        if self._now_spent() >= self.seconds:
            run.stop(f"{self._now_spent():.1f} of {self.seconds:g} seconds are spent")

    def _now_spent(self) -> float:
        running = 0.0 if self._started is None else time.perf_counter() - self._started
        return self._spent_before + running
