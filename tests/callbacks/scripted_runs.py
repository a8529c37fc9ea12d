"""A learner without a network, whose every episode is known in advance, and a callback that writes all down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rl_framework.callbacks.base import Callback, RunHandle
from rl_framework.callbacks.run import TrainingRun
from rl_framework.checkpoints.manifest import Manifest
from rl_framework.checkpoints.state_tree import read_state, write_state
from rl_framework.core.reports import EpisodeSummary, Report, TrainingSummary


class Recorder(Callback):
    """Writes down the verbs it is called with."""

    def __init__(self, every_timesteps: int | None = None) -> None:
        self.every_timesteps = every_timesteps
        self.verbs: list[str] = []
        self.reports: list[Report] = []
        self.summaries: list[TrainingSummary] = []

    def on_training_start(self, run: RunHandle) -> None:
        self.verbs.append("start")

    def on_report(self, run: RunHandle, report: Report) -> None:
        self.verbs.append("report")
        self.reports.append(report)

    def on_training_end(self, run: RunHandle, summary: TrainingSummary) -> None:
        self.verbs.append("end")
        self.summaries.append(summary)

    def close(self) -> None:
        self.verbs.append("close")

    @property
    def steps(self) -> list[int]:
        return [report.timesteps for report in self.reports]


class Remembering(Callback):
    """Keeps the steps of its reports, also across interruptions."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def on_report(self, run: RunHandle, report: Report) -> None:
        self.seen.append(report.timesteps)

    def state_dict(self) -> dict[str, Any]:
        return {"seen": list(self.seen)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen = list(state["seen"])


class FailingToReport(Recorder):
    """Raises with the first report."""

    def on_report(self, run: RunHandle, report: Report) -> None:
        raise ZeroDivisionError("deliberate")


class ScriptedTraining:
    """Takes `stride` steps between boundaries; an episode ends every `length` steps with a scripted return.

    Args:
        callbacks: Those who watch.
        target: Steps at which the run ends.
        timesteps: Steps so far.
        stride: Steps between boundaries.
        length: Steps of an episode.
        total_reward: Return of the episode that ends at a step.
        at_step: Called at each step of the learner, before its boundary.
        level: How exactly the run could be resumed at a step.
        statistics: What the environments measured since the last report.
    """

    def __init__(
        self,
        callbacks: Sequence[Callback],
        target: int = 100,
        *,
        timesteps: int = 0,
        stride: int = 1,
        length: int = 5,
        total_reward: Callable[[int], float] = float,
        at_step: Callable[[int], None] = lambda _: None,
        level: Callable[[int], str] = lambda _: "exact",
        statistics: Callable[[], Mapping[str, float]] = dict,
        report_every: int | None = None,
    ) -> None:
        self.timesteps = timesteps
        self.stride, self.length, self.total_reward, self.at_step = stride, length, total_reward, at_step
        self.level = level
        self.run = TrainingRun(
            timesteps=timesteps,
            target_timesteps=target,
            callbacks=callbacks,
            save=self.save,
            resume_level=lambda: self.level(self.timesteps),
            statistics=statistics,
            report_every=report_every,
        )

    @classmethod
    def resumed(cls, folder: Path, callbacks: Sequence[Callback], **options: Any) -> ScriptedTraining:
        """Go on with what `save` wrote."""
        state = read_state(folder, "run")
        training = cls(callbacks, timesteps=int(state["timesteps"]), **options)
        training.run.load_state_dict(state["run"])
        return training

    def save(self, folder: Path) -> None:
        """Fill a folder as an agent does: state first, manifest last."""
        write_state(folder, "run", {"timesteps": self.timesteps, "run": self.run.state_dict()})
        scripted_manifest(self.timesteps).write(folder)

    def learn(self) -> None:
        while self.timesteps < self.run.target_timesteps:
            self._advance()
            self.run.record_metrics({"train/loss": 1.0 / self.timesteps})
            self.at_step(self.timesteps)
            self.run.at_boundary(self.timesteps)

    def conduct(self) -> TrainingSummary:
        return self.run.conduct(self.learn)

    def _advance(self) -> None:
        before, self.timesteps = self.timesteps, self.timesteps + self.stride
        ends = range((before // self.length + 1) * self.length, self.timesteps + 1, self.length)
        if ends:
            self.run.record_episodes([self._episode(end) for end in ends])

    def _episode(self, end: int) -> EpisodeSummary:
        return EpisodeSummary(
            row=0, total_reward=self.total_reward(end), length=self.length, success=end % (2 * self.length) == 0
        )


def scripted_manifest(timesteps: int) -> Manifest:
    return Manifest(kind="scripted", algorithm="rl_framework.testing:scripted", timesteps=timesteps)
