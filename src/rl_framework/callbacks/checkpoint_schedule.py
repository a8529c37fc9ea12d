"""Saves the agent while it trains, on steps that do not depend on interruptions."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_framework.callbacks.base import Callback, RunHandle
from rl_framework.checkpoints.retention import CheckpointFolder
from rl_framework.core.reports import Report, TrainingSummary
from rl_framework.errors import InvalidInputError, RLFrameworkError

if TYPE_CHECKING:
    from rl_framework.connectors.remote import RemoteConnector

logger = logging.getLogger(__name__)

MID_EPISODE = "approximate"


@dataclass(slots=True)
class _Memory:
    """The steps at the latest report, and those since which a checkpoint is due."""

    seen: int | None = None
    due_since: int | None = None


class CheckpointSchedule(Callback):
    """Saves the agent at the start, whenever `timesteps` crosses a multiple of a number, and at the end.

    Where the environments cannot give their state in the middle of an episode, a checkpoint that is due waits for
    a boundary from which the run can be continued exactly, for at most `every_timesteps` steps more; after that
    it is taken as it is. The log says which level was reached. A checkpoint that cannot be written never ends
    the training: it becomes a warning of the run.
    """

    def __init__(
        self,
        folder: str | Path,
        every_timesteps: int = 10_000,
        *,
        keep_last: int = 3,
        keep_best: bool = True,
        push_to: RemoteConnector | None = None,
    ) -> None:
        """Plan checkpoints.

        Args:
            folder: Where they go, one folder each.
            every_timesteps: Environment steps between two of them.
            keep_last: How many of the newest stay on disk.
            keep_best: Whether the one with the best mean return stays on disk as well.
            push_to: A service that gets a copy of each, in the background; whoever made the connector closes it.

        Raises:
            InvalidInputError: A number is not positive, or the folder is a file.
        """
        if every_timesteps < 1:
            raise InvalidInputError(f"every_timesteps must be at least 1, got {every_timesteps}.")
        self._checkpoints = CheckpointFolder(Path(folder), keep_last=keep_last, keep_best=keep_best)
        self.folder = self._checkpoints.folder
        if self.folder.exists() and not self.folder.is_dir():
            raise InvalidInputError(f"Checkpoints need a folder, but {self.folder} is a file.")
        if push_to is not None and not hasattr(push_to, "push_checkpoint"):
            raise InvalidInputError(
                f"push_to must be a connector to a service that keeps checkpoints, got {type(push_to).__name__}."
            )
        self._push_to = push_to
        self._period = self.every_timesteps = every_timesteps
        self._memory = _Memory()
        self._saved: int | None = None

    def on_training_start(self, run: RunHandle) -> None:
        """Save once, so that something that can be loaded is always on disk.

        Raises:
            InvalidInputError: The folder holds checkpoints of another run, further on than this one.
        """
        steps = self._checkpoints.steps()
        if self._memory.seen is not None and run.timesteps in steps:
            return
        if self._memory.seen is None:
            self._check_is_free(run, steps)
            self._memory.seen = run.timesteps
        self._save(run, score=None)

    def on_report(self, run: RunHandle, report: Report) -> None:
        """Save if a checkpoint is due and the run is at a point that can be resumed exactly, or waited enough."""
        if self._memory.due_since is None and self._crossed(report.timesteps):
            self._memory.due_since = report.timesteps
        self._memory.seen = report.timesteps
        if self._memory.due_since is None:
            return
        if run.resume_level() == MID_EPISODE and report.timesteps - self._memory.due_since < self._period:
            self.every_timesteps = 1
        else:
            self._save(run, report.mean_return)

    def on_training_end(self, run: RunHandle, summary: TrainingSummary) -> None:
        """Save what the run ended with."""
        if self._saved != run.timesteps:
            self._save(run, summary.mean_return)

    def close(self) -> None:
        """Be ready for another run."""
        self._memory, self._saved = _Memory(), None
        self.every_timesteps = self._period

    def state_dict(self) -> dict[str, Any]:
        """How far the schedule has come, and since when a checkpoint is due."""
        return asdict(self._memory)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._memory = _Memory(**state)
        self.every_timesteps = self._period if self._memory.due_since is None else 1

    def _check_is_free(self, run: RunHandle, steps: Sequence[int]) -> None:
        """Refuse to mix two runs: whoever looks for the latest checkpoint would find the other run's."""
        if steps and max(steps) > run.timesteps:
            raise InvalidInputError(
                f"{self.folder} holds checkpoints of another run, up to step {max(steps)}, and this run begins at step "
                f"{run.timesteps}. Resume that run, give another folder, or remove this one."
            )

    def _crossed(self, timesteps: int) -> bool:
        return self._memory.seen is None or timesteps // self._period > self._memory.seen // self._period

    def _save(self, run: RunHandle, score: float | None) -> None:
        """Write a checkpoint; what it says of this schedule is how things stand once it is written."""
        self._saved, self._memory.due_since = run.timesteps, None
        self.every_timesteps = self._period
        level = run.resume_level()
        try:
            place = self._checkpoints.save(run.timesteps, run.save_agent, score=score)
        except Exception as error:  # noqa: BLE001  # whatever it was, hours of training are worth more
            self._saved = None
            run.warn(f"The checkpoint at step {run.timesteps} could not be written to {self.folder}: {error}")
        else:
            logger.info("Checkpoint at step %d in %s; resuming from it is %s.", run.timesteps, self.folder, level)
            self._push(run, place)

    def _push(self, run: RunHandle, place: Path) -> None:
        if self._push_to is None:
            return
        try:
            self._push_to.push_checkpoint(place, run.timesteps, wait=False)
        except (RLFrameworkError, OSError) as error:
            run.warn(f"The checkpoint at step {run.timesteps} could not be pushed: {error}")


def as_checkpoint_schedule(checkpoint: CheckpointSchedule | str | Path | None) -> CheckpointSchedule | None:
    """The schedule that the `checkpoint=` argument of `train` means: one as it is, or a folder with the defaults.

    Raises:
        InvalidInputError: It is neither.
    """
    if checkpoint is None or isinstance(checkpoint, CheckpointSchedule):
        return checkpoint
    if isinstance(checkpoint, str | Path):
        return CheckpointSchedule(checkpoint)
    raise InvalidInputError(f"checkpoint must be a CheckpointSchedule or the path of a folder, got {checkpoint!r}.")
