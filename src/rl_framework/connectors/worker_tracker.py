"""Trackers whose client works in a process of its own: reports that nobody waits for."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from abc import abstractmethod
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from rl_framework.connectors.base import Tracker, as_number, check_file
from rl_framework.connectors.worker_process import WorkerProcess
from rl_framework.errors import ConnectorError, MissingExtraError

MOST_RESTARTS = 3

_log = logging.getLogger(__name__)


class WorkerTracker(Tracker):
    """Hands reports to a worker process without waiting; what gets lost is told once, and counted at the end.

    Args:
        close_patience: Seconds that closing may take to hand over what is waiting.
        options: Arguments of the class that a subclass also derives from.
    """

    service: ClassVar[str]
    """The service's name, for messages."""
    worker_module: ClassVar[str]
    """What runs in the process."""
    library: ClassVar[str]
    """What it imports, which is also the name of the extra."""

    def __init__(self, *, close_patience: float = 60.0, **options: Any) -> None:
        super().__init__(**options)
        self.close_patience = close_patience
        self._tracking: WorkerProcess | None = None
        self._spool: TemporaryDirectory[str] | None = None
        self._n_lost = self._n_restarts = 0
        self._choosing = threading.RLock()

    def _place(self) -> str:
        """Where reports go, for messages."""
        return self.service

    @abstractmethod
    def _opening(self, *, fallback: bool) -> dict[str, Any]:
        """Arguments of the worker's verb `open`.

        Args:
            fallback: Whether reports may go somewhere else if the service is silent.
        """

    def log_value(self, name: str, value: float, step: int | None = None) -> None:
        """Report one number."""
        self._report("values", values={name: as_number(name, value)}, step=step)

    def log_values_with_step(self, values: Mapping[str, float], step: int) -> None:
        """Report several numbers."""
        numbers = {name: as_number(name, value) for name, value in values.items()}
        if numbers:
            self._report("values", values=numbers, step=step)

    def log_text(self, name: str, text: str, step: int | None = None) -> None:
        """Report a text."""
        self._report("text", name=name, text=text, step=step)

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Report how the run was set up."""
        self._report("parameters", parameters=_plain(parameters))

    def log_video(self, name: str, path: Path, step: int | None = None) -> None:
        """Report a video; it is copied at once."""
        self._report("video", name=name, path=self._spooled(path), step=step)

    def log_artifact(self, name: str, path: Path) -> None:
        """Report a file; it is copied at once."""
        self._report("artifact", name=name, path=self._spooled(path))

    def flush(self) -> None:
        """Have the worker send what is waiting; nobody waits for it here."""
        if self._tracking is not None:
            self._tracking.post("flush")

    def close(self) -> None:
        """End the run, after all that was handed over has arrived, or the patience is at its end."""
        super().close()
        for worker in self._workers():
            self._end(worker)
        self._tracking = None
        if self._spool is not None:
            self._spool.cleanup()
            self._spool = None
        if self._n_lost > 1:
            _log.warning("%d reports to %s were lost.", self._n_lost, self._place())
        self._n_lost = self._n_restarts = 0

    def _workers(self) -> list[WorkerProcess]:
        """All that were started."""
        return [] if self._tracking is None else [self._tracking]

    def _tracking_worker(self) -> WorkerProcess:
        """The one that takes reports; one that has died is followed by another, a few times."""
        with self._choosing:
            worker = self._tracking
            if worker is None or (not worker.alive and self._n_restarts < MOST_RESTARTS):
                self._n_restarts += worker is not None
                worker = self._tracking = self._spare_worker() or self._new_worker()
                worker.post("open", **self._opening(fallback=True))
            return worker

    def _spare_worker(self) -> WorkerProcess | None:
        """One that was started for something else, and may take reports, too."""
        return None

    def _new_worker(self) -> WorkerProcess:
        if find_spec(self.library) is None:
            raise MissingExtraError(f"Sharing with {self.service}", self.library)
        return WorkerProcess(self.worker_module, self.service, on_note=self._take_note, redact=self.redact)

    def _report(self, verb: str, **arguments: Any) -> None:
        if not self._tracking_worker().post(verb, **arguments):
            self._count_loss(verb, f"the process for {self.service} takes no more")

    def _take_note(self, note: Mapping[str, Any]) -> None:
        """Called in a thread of the worker's, with what it says unasked."""
        if "lost" in note:
            self._count_loss(note["lost"], self.redact(note["message"]), note.get("count", 1))

    def _count_loss(self, verb: str, reason: str, count: int = 1) -> None:
        """Only the first is told at once."""
        first = self._n_lost == 0
        self._n_lost += count
        if first:
            _log.warning("%s did not take a report (%s): %s", self._place(), verb, reason)

    def _spooled(self, path: Path) -> str:
        """A copy that stays until it was sent."""
        check_file(path)
        if self._spool is None:
            self._spool = TemporaryDirectory(prefix="rl_framework-reports-", ignore_cleanup_errors=True)
        folder = Path(self._spool.name) / str(time.monotonic_ns())
        folder.mkdir()
        return str(shutil.copyfile(path, folder / path.name))

    def _end(self, worker: WorkerProcess) -> None:
        try:
            if worker.alive:
                worker.request("close", deadline=self.close_patience)
        except ConnectorError as error:
            _log.warning("%s did not take all that was waiting: %s", self._place(), error)
        worker.stop(self.close_patience if worker.alive else 0.0)

    def redact(self, text: str) -> str:
        """A text without the secrets that this tracker knows; a subclass that knows some takes them out."""
        return text


def _plain(value: Any) -> Any:
    """JSON's own types; anything else as its text."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Mapping():
            return {str(key): _plain(part) for key, part in value.items()}
        case list() | tuple():
            return [_plain(part) for part in value]
    return str(value)
