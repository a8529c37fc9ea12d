"""What a training function is given beside its configuration: its folder, and somebody who listens."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from rl_framework.connectors.base import Tracker, as_number
from rl_framework.errors import InvalidInputError
from rl_framework.launch.run_directory import RunDirectory

if TYPE_CHECKING:
    from rl_framework.connectors.local import LocalConnector

MEAN_RETURN = "mean_return"
# Under which names trackers hear of a statistic that has one of this library's own.
ALSO_CALLED = {MEAN_RETURN: ("rollout/ep_rew_mean",)}
STATE = "state"

Listener: TypeAlias = Callable[[int, float], None]


class Run(Tracker):
    """One run of a launch script.

    It is a tracker: `agent.train(..., connector=run.connector, checkpoint=run.checkpoints)` writes the agent's numbers
    into the run's folder and lets a study hear of them, which may end a run without prospects by an exception.

    Attributes:
        folder: Where everything of the run belongs.
        resumed: The newest complete checkpoint of an interrupted run that goes on now; None for a fresh run, and for
            one that was interrupted before its first checkpoint.
        primary: Name of the statistic that says how good the run is.
        trial: Number of the trial that it belongs to, None outside of a study.
        score: The latest value of the primary statistic, None before the first.
    """

    def __init__(
        self,
        directory: RunDirectory,
        *,
        primary: str = MEAN_RETURN,
        resumed: Path | None = None,
        trial: int | None = None,
        listener: Listener | None = None,
    ) -> None:
        self.folder = directory.path
        self.resumed = resumed
        self.primary = primary
        self.trial = trial
        self.score: float | None = None
        self._directory = directory
        self._listener = listener
        self._names: set[str] = set()

    @property
    def connector(self) -> Tracker:
        """Where an agent's numbers go: this run."""
        return self

    @property
    def checkpoints(self) -> Path:
        """The folder for checkpoints."""
        return self._directory.checkpoints

    def report(self, step: int, **statistics: float) -> None:
        """Write down statistics of a step; a study hears of the primary one.

        Args:
            step: Environment steps, updates, or whatever else the run counts; it should rise.
            statistics: Their names and values.

        Raises:
            InvalidInputError: A value is not a number, or the step is not a whole one.
        """
        self.log_values_with_step(statistics, step)

    def log_value(self, name: str, value: float, step: int | None = None) -> None:
        """Write down one statistic; a study hears of those that belong to a step."""
        if step is not None:
            self.log_values_with_step({name: value}, step)
            return
        self._reports.log_value(name, value)
        self._keep({name: as_number(name, value)})

    def log_values_with_step(self, values: Mapping[str, float], step: int) -> None:
        """Write down statistics of a step; a study hears of the primary one."""
        step = _checked_step(step)
        numbers = {name: as_number(name, value) for name, value in values.items()}
        self._reports.log_values_with_step(numbers, step)
        heard = self._keep(numbers)
        if heard is not None and self._listener is not None:
            self._listener(step, heard)

    def log_text(self, name: str, text: str, step: int | None = None) -> None:
        """Write down a text."""
        self._reports.log_text(name, text, step)

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Write down how something was set up."""
        self._reports.log_parameters(parameters)

    def log_video(self, name: str, path: Path, step: int | None = None) -> None:
        """Keep a copy of a video."""
        self._reports.log_video(name, path, step)

    def log_artifact(self, name: str, path: Path) -> None:
        """Keep a copy of a file."""
        self._reports.log_artifact(name, path)

    def flush(self) -> None:
        """Make sure that the reports survive a power cut."""
        self._reports.flush()

    def save_state(self, step: int, state: Any, *, score: float | None = None, keep_last: int = 3) -> Path:
        """Save a checkpoint of something that is no agent, whole or not at all.

        Args:
            step: How far the run is; it orders the checkpoints.
            state: A plain tree: numbers, texts, lists, dicts, arrays, tensors, such as a trainer's `state_dict()`.
            score: The higher the better; the best one stays beside the latest.
            keep_last: How many of the latest stay.

        Raises:
            ArchiveError: It holds something that cannot be written without pickle, or the disk refuses.
        """
        from rl_framework.checkpoints.manifest import Manifest
        from rl_framework.checkpoints.retention import CheckpointFolder
        from rl_framework.checkpoints.state_tree import write_state

        def write(folder: Path) -> None:
            write_state(folder, STATE, state)
            Manifest(kind=STATE, algorithm="", timesteps=step).write(folder)

        return CheckpointFolder(self.checkpoints, keep_last=keep_last).save(step, write, score=score)

    def load_state(self) -> Any:
        """What the newest complete checkpoint of the resumed run was given to save; None for a fresh run.

        Raises:
            MissingArchiveError: The checkpoint is an agent's: use `load_agent(run.resumed)`.
        """
        from rl_framework.checkpoints.state_tree import read_state

        return None if self.resumed is None else read_state(self.resumed, STATE)

    def described(self) -> str:
        """The names of the statistics that were reported, for messages."""
        return ", ".join(sorted(self._names)) or "nothing"

    @cached_property
    def _reports(self) -> LocalConnector:
        from rl_framework.connectors.local import LocalConnector

        return LocalConnector(self._directory.reports)

    def _keep(self, numbers: Mapping[str, float]) -> float | None:
        """Note the primary statistic, and give it if it is among the numbers."""
        self._names.update(numbers)
        names = (self.primary, *ALSO_CALLED.get(self.primary, ()))
        found = next((numbers[name] for name in names if name in numbers), None)
        self.score = self.score if found is None else found
        return found


def _checked_step(step: Any) -> int:
    try:
        number = operator.index(step)
    except TypeError as error:
        raise InvalidInputError(f"A step is a whole number; got {step!r}.") from error
    if number < 0:
        raise InvalidInputError(f"A step is not negative; got {number}.")
    return number
