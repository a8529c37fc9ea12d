"""Ctrl-C during training: the first asks for a clean end, the second ends at once."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

MESSAGE = "\nInterrupted: finishing the current iteration, then saving. Press Ctrl-C again to stop at once.\n"


class InterruptWatch:
    """Takes over Ctrl-C (SIGINT) while a block runs, and gives the previous handler back after it.

    Signals reach only the main thread: in another thread this does nothing. A process that ignores SIGINT (one
    that `nohup` started in the background) keeps ignoring it.

    Attributes:
        pressed: Whether Ctrl-C was pressed since the block was entered.
    """

    def __init__(self, on_first: Callable[[], None]) -> None:
        """Watch for Ctrl-C.

        Args:
            on_first: Called from the signal handler at the first Ctrl-C; it must only set flags.
        """
        self.pressed = False
        self._on_first = on_first
        self._previous: Any = None

    def __enter__(self) -> InterruptWatch:
        self.pressed = False
        self._previous = _replaceable_handler()
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True
        self._on_first()
        _announce()


def _announce() -> None:
    """Tell the person at the terminal, unless the signal came in the middle of another write to it."""
    if sys.stderr is None:
        return
    with suppress(RuntimeError, ValueError, OSError):
        sys.stderr.write(MESSAGE)
        sys.stderr.flush()


def _replaceable_handler() -> Any:
    """The current handler of SIGINT, None where it must stay: other threads, ignored, not set from Python."""
    if threading.current_thread() is not threading.main_thread():
        return None
    current = signal.getsignal(signal.SIGINT)
    return None if current is signal.SIG_IGN else current
