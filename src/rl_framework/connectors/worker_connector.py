"""Connectors whose client works in a process of its own."""

from __future__ import annotations

import math
from pathlib import Path

from typing_extensions import override

from rl_framework.connectors.outbox import Outbox
from rl_framework.connectors.remote import RemoteConnector
from rl_framework.connectors.retries import RetryPolicy
from rl_framework.connectors.worker_tracker import WorkerTracker

SHORT_DEADLINE = 60.0
SLOWEST_BYTES_PER_SECOND = 50_000


class WorkerConnector(WorkerTracker, RemoteConnector):
    """A tracker that never waits, and a store with an outbox, over the same worker process.

    Args:
        outbox: Where pushes wait; the user's own unless given.
        retry_policy: How often and how long a request is tried again before a push waits in the outbox.
        close_patience: Seconds that closing may take to hand over what is waiting.
    """

    def __init__(
        self, *, outbox: Outbox | None = None, retry_policy: RetryPolicy | None = None, close_patience: float = 60.0
    ) -> None:
        super().__init__(close_patience=close_patience, outbox=outbox, retry_policy=retry_policy)

    @override
    def _place(self) -> str:
        return f"{self.service} ({self.destination})"


def upload_deadline(path: Path) -> float:
    """Seconds after which the upload of a file or folder is given up."""
    size = path.stat().st_size if path.is_file() else sum(part.stat().st_size for part in path.rglob("*"))
    return 2 * SHORT_DEADLINE + math.ceil(size / SLOWEST_BYTES_PER_SECOND)
