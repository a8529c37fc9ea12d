"""What watches a training run: a callback gets reports, and may save or stop the run through its handle."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from rl_framework.core.reports import Report, TrainingSummary


class RunHandle(Protocol):
    """What a callback may do with the run that it watches."""

    @property
    def timesteps(self) -> int:
        """Environment steps in the agent's life, now."""
        ...

    @property
    def target_timesteps(self) -> int:
        """The value of `timesteps` at which this run ends."""
        ...

    def stop(self, reason: str) -> None:
        """End the run at this point, where it can be continued from; the summary carries the reason."""
        ...

    def save_agent(self, path: Path) -> None:
        """Save the agent with everything that an exact resume needs.

        Raises:
            ArchiveError: It could not be written.
        """
        ...

    def resume_level(self) -> str:
        """How exactly the run could be continued if it were saved now, in the words of `TrainingSummary`."""
        ...

    def warn(self, message: str) -> None:
        """Note something that went wrong without ending the run; it is logged and stands in the summary."""
        ...


class Callback:
    """Base of everything that watches a run. All verbs do nothing unless overridden.

    Attributes:
        every_timesteps: The run reports at least whenever `timesteps` crosses a multiple of this number, so that
            a schedule falls on the same steps whether or not the run was interrupted. None: whenever it does.
    """

    every_timesteps: int | None = None

    def on_training_start(self, run: RunHandle) -> None:
        """Called once before the first step of a run, and of a resumed one."""

    def on_report(self, run: RunHandle, report: Report) -> None:
        """Called with each report, at a point from which the run can be continued exactly."""

    def on_training_end(self, run: RunHandle, summary: TrainingSummary) -> None:
        """Called once when the run has ended, also when it was stopped or interrupted; not when it failed."""

    def close(self) -> None:
        """Called last, however the run ended, also when it failed."""

    def state_dict(self) -> dict[str, Any]:
        """What must survive an interruption, as a plain tree of numbers, strings, lists, dicts and arrays."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
