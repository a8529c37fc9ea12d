"""A worker process as its parent sees it."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rl_framework.errors import RLFrameworkError

LAST_WORDS = 15
LINE_PATIENCE = 2.0
KINDS = {"ready", "started", "finished"}
THREAD_COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Message:
    """What a worker says, or how it ended.

    Attributes:
        worker: Who says it.
        content: As in `trial_worker`; `{"gone": exit status}` as the last one.
    """

    worker: TrialWorker
    content: Mapping[str, Any]


class TrialWorker:
    """Starts a worker process, hands it trials and passes on what it says.

    Args:
        command: The program and its words.
        order: The first line for it.
        log: File that takes what it prints.
        messages: Takes what it says, from a thread of this object.
        threads: Threads that numerical libraries may use in it.

    Attributes:
        is_ready: Whether it has opened the study.
        is_busy: Whether it was handed a trial that has not ended.
        trial: Number of the trial that goes on in it, None if there is none.
    """

    def __init__(
        self,
        command: Sequence[str],
        order: Mapping[str, Any],
        *,
        log: Path,
        messages: queue.Queue[Message],
        threads: int,
    ) -> None:
        self.is_ready = self.is_busy = False
        self.trial: int | None = None
        self.log = log
        self._process = _start(command, log, threads)
        self._reader = threading.Thread(target=self._pass_on, args=(messages,), daemon=True)
        self._watch = threading.Thread(target=self._see_off, args=(messages,), daemon=True)
        self._reader.start()
        self._watch.start()
        self._send(order)

    def begin_trial(self) -> None:
        """Hand it a trial."""
        self.is_busy = True
        self._send({"trial": True})

    def finish(self) -> None:
        """Let it end once it has nothing to do."""
        with suppress(OSError):
            self._input.close()

    def end(self, patience: float) -> None:
        """End it: politely, then by force; whatever it started as well where the system has groups of processes.

        What it started may live on after a worker that ended by itself or was killed.
        """
        self.finish()
        if self._process.poll() is None:
            self._signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        self._signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
        self._process.wait()
        self._watch.join(patience)

    def last_words(self) -> str:
        """The end of what it printed."""
        with suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-LAST_WORDS:])
        return ""

    @property
    def _input(self) -> IO[bytes]:
        return _of(self._process.stdin)

    def _send(self, message: Mapping[str, Any]) -> None:
        """One that has died is heard of by its end."""
        with suppress(OSError, ValueError):
            self._input.write(json.dumps(message).encode() + b"\n")
            self._input.flush()

    def _pass_on(self, messages: queue.Queue[Message]) -> None:
        """Messages to whoever conducts the study; what a script prints before it serves, to the log."""
        with _of(self._process.stdout) as lines:
            for line in lines:
                content = _message_in(line)
                if content is None:
                    self._note(line)
                else:
                    messages.put(Message(self, content))

    def _see_off(self, messages: queue.Queue[Message]) -> None:
        """Tell of the end, after all that was said before it; its own children may keep the line open for longer."""
        status = self._process.wait()
        self._reader.join(LINE_PATIENCE)
        messages.put(Message(self, {"gone": status}))

    def _note(self, line: bytes) -> None:
        with suppress(OSError), self.log.open("ab") as log:
            log.write(line)

    def _signal(self, number: int) -> None:
        with suppress(OSError):
            if os.name == "posix":
                os.killpg(self._process.pid, number)
            else:
                self._process.send_signal(number)


def ending(status: int) -> str:
    """An exit status in words."""
    if status < 0:
        with suppress(ValueError):
            return f"was ended by {signal.Signals(-status).name}"
    return f"ended with exit code {status}"


def _message_in(line: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(line)
    except ValueError:
        return None
    return content if isinstance(content, dict) and KINDS & set(content) else None


def _start(command: Sequence[str], log: Path, threads: int) -> subprocess.Popen[bytes]:
    """Apart from the terminal's Ctrl-C, which is for the parent."""
    counts = dict.fromkeys(THREAD_COUNTS, str(threads))
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as errors:
        try:
            return subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**counts, **os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        except OSError as error:
            raise RLFrameworkError(f"Cannot start {' '.join(command)}: {error}") from error


def _of(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise RLFrameworkError("The process was started without its streams.")
    return stream
