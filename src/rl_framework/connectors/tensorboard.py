"""Numbers for TensorBoard's pages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_framework.connectors.base import Tracker, as_number, check_file
from rl_framework.errors import MissingExtraError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoardTracker(Tracker):
    """Writes event files. Names stay as they are, so that runs of this library and of plain SB3 share their curves.

    Videos and other files have no place in an event file: where they are is noted as a text.

    Args:
        folder: Where the event files go. It is made with the first number.

    Raises:
        MissingExtraError: (with the first number) TensorBoard is not installed.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._open_writer: SummaryWriter | None = None

    def log_value(self, name: str, value: float, step: int | None = None) -> None:
        """Add a point to a curve; at step 0 if it has none."""
        self._writer().add_scalar(name, as_number(name, value), step)

    def log_values_with_step(self, values: Mapping[str, float], step: int) -> None:
        """Add a point to each curve."""
        for name, value in values.items():
            self.log_value(name, value, step)

    def log_text(self, name: str, text: str, step: int | None = None) -> None:
        """Add a text."""
        self._writer().add_text(name, text, step)

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Add the parameters as a table."""
        rows = [f"| {name} | {json.dumps(value, default=str)} |" for name, value in parameters.items()]
        self.log_text("parameters", "\n".join(["| parameter | value |", "|---|---|", *rows]))

    def log_video(self, name: str, path: Path, step: int | None = None) -> None:
        """Note where the video is."""
        self.log_text(name, f"video: {check_file(path).absolute()}", step)

    def log_artifact(self, name: str, path: Path) -> None:
        """Note where the file is."""
        self.log_text(name, f"file: {check_file(path).absolute()}")

    def flush(self) -> None:
        """Write what is waiting to the file."""
        if self._open_writer is not None:
            self._open_writer.flush()

    def close(self) -> None:
        """Complete the event file."""
        if self._open_writer is not None:
            self._open_writer.close()
            self._open_writer = None

    def _writer(self) -> SummaryWriter:
        if self._open_writer is None:
            self._open_writer = _summary_writer(self.folder)
        return self._open_writer


def _summary_writer(folder: Path) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("Writing TensorBoard logs", "tensorboard") from error
    return SummaryWriter(str(folder))
