"""How far a run is, in one line of the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

from typing_extensions import override

from rl_framework.callbacks.base import Callback, RunHandle
from rl_framework.core.reports import Report, TrainingSummary

if TYPE_CHECKING:
    from tqdm import tqdm


class ProgressBar(Callback):
    """Shows steps, steps per second, the last mean return and the time left on the standard error stream.

    Nothing is shown where that stream is not a terminal, so logs of batch jobs stay readable.
    """

    def __init__(self, *, shown: bool | None = None) -> None:
        """Prepare the line.

        Args:
            shown: Whether to show it; None: if the standard error stream is a terminal.
        """
        self._shown = shown
        self._bar: tqdm[NoReturn] | None = None

    def on_training_start(self, run: RunHandle) -> None:
        """Draw the line."""
        if not (sys.stderr.isatty() if self._shown is None else self._shown):
            return
        from tqdm import tqdm

        self._bar = tqdm(
            total=run.target_timesteps, initial=run.timesteps, unit=" steps", file=sys.stderr, dynamic_ncols=True
        )

    @override
    def on_report(self, run: RunHandle, report: Report) -> None:
        """Move the line on."""
        if self._bar is None:
            return
        if report.mean_return is not None:
            self._bar.set_postfix_str(f"return {report.mean_return:.4g}", refresh=False)
        self._bar.update(report.timesteps - self._bar.n)

    @override
    def on_training_end(self, run: RunHandle, summary: TrainingSummary) -> None:
        """Leave the line as it stands."""
        self.close()

    def close(self) -> None:
        """End the line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
