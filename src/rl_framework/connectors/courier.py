"""A thread that brings pushes away, so that a training does not wait for a network."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

from rl_framework.connectors.outbox_entry import Entry

_log = logging.getLogger(__name__)


class Courier:
    """Sends entries of the outbox one after the other; what it cannot send stays there.

    The thread begins with the first entry and does not keep a program from ending.

    Args:
        send: Sends one entry, and tells what goes wrong.
    """

    def __init__(self, send: Callable[[Entry], object]) -> None:
        self._send = send
        self._waiting: SimpleQueue[Entry | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def hand_over(self, entry: Entry) -> None:
        """Have an entry sent soon."""
        self._waiting.put(entry)
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._work, args=(self._waiting,), name="rl_framework courier", daemon=True
            )
            self._thread.start()

    def finish(self, patience: float) -> bool:
        """Wait until everything that was handed over was tried; a later entry begins anew.

        Args:
            patience: Seconds to wait at most.

        Returns:
            Whether it was.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return True
        self._waiting.put(None)
        self._waiting = SimpleQueue()
        thread.join(patience)
        return not thread.is_alive()

    def _work(self, waiting: SimpleQueue[Entry | None]) -> None:
        while (entry := waiting.get()) is not None:
            self._try(entry)

    def _try(self, entry: Entry) -> None:
        """Send one; whatever it raises, the thread goes on with the next. Its text may tell secrets."""
        try:
            self._send(entry)
        except Exception as error:  # noqa: BLE001
            _log.warning("The push %s stays in the outbox because of a %s.", entry.id, type(error).__name__)
