"""Keeps an agent's training history up to date while it learns."""

from __future__ import annotations

import time
from datetime import datetime, timezone

from typing_extensions import override

from rl_framework.callbacks.base import Callback, RunHandle
from rl_framework.core.reports import Report, TrainingSummary
from rl_framework.core.training_history import CurvePoint, TrainingCall, TrainingHistory


class HistoryKeeper(Callback):
    """Adds the present call, and the reports of it, to a history.

    Attributes:
        history: The history so far, the present call included.
    """

    def __init__(self, history: TrainingHistory, *, n_envs: int = 0, environment_id: str | None = None) -> None:
        self.history = history
        self._n_envs = n_envs
        self._environment_id = environment_id
        self._start = time.perf_counter()

    @override
    def on_training_start(self, run: RunHandle) -> None:
        """Open the call's entry."""
        self._start = time.perf_counter()
        call = TrainingCall(
            started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            first_timesteps=run.timesteps,
            last_timesteps=run.timesteps,
            target_timesteps=run.target_timesteps,
            duration_seconds=0.0,
            n_envs=self._n_envs,
            environment_id=self._environment_id,
        )
        self.history = self.history.with_call(call)

    @override
    def on_report(self, run: RunHandle, report: Report) -> None:
        """Bring the entry up to date, and add a point to the curve."""
        self._update(report.timesteps, None)
        if report.mean_return is not None:
            point = CurvePoint(timesteps=report.timesteps, mean_return=report.mean_return)
            self.history = self.history.with_point(point)

    @override
    def on_training_end(self, run: RunHandle, summary: TrainingSummary) -> None:
        """Complete the entry."""
        self._update(summary.total_timesteps, summary.stop_reason)

    def _update(self, timesteps: int, stop_reason: str | None) -> None:
        seconds = time.perf_counter() - self._start
        self.history = self.history.with_last_call(
            last_timesteps=timesteps, duration_seconds=round(seconds, 3), stop_reason=stop_reason
        )
