"""The worker's side of `worker_process`: reads requests from the standard input until it ends, and answers them."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from typing import IO, Any, Literal

Kind = Literal["unreachable", "refused"]

PATIENCE_AFTER_PARENT = 120.0


class Unreachable(BaseException):
    """The service cannot be reached. Clients catch every `Exception` and try again for ever; not this one."""


class Refused(Exception):
    """What was asked cannot be done, and will not be possible later."""


class Answers:
    """Writes messages to the parent, one per line, from any thread.

    Whatever else the process prints goes to its standard error from now on.
    """

    def __init__(self) -> None:
        self._stream: IO[bytes] = os.fdopen(os.dup(1), "wb")
        self._lock = threading.Lock()
        os.dup2(2, 1)

    def note(self, **content: Any) -> None:
        """Say something without being asked."""
        self.write({"note": content})

    def write(self, message: dict[str, Any]) -> None:
        """Write one message; a parent that is gone needs none."""
        with self._lock:
            try:
                self._stream.write(json.dumps(message).encode() + b"\n")
                self._stream.flush()
            except OSError:
                return


def serve(worker: object, answers: Answers, explain: Callable[[BaseException], tuple[Kind, str]]) -> None:
    """Carry out verbs until the input ends, then `close`, and end the process.

    Args:
        worker: Its methods `do_<verb>` carry out the verbs.
        answers: Where the results go.
        explain: Whether an error may pass, and what it says, without secrets.
    """
    for line in sys.stdin.buffer:
        _carry_out(worker, json.loads(line), answers, explain)
    watchdog = threading.Timer(PATIENCE_AFTER_PARENT, os._exit, (1,))
    watchdog.daemon = True
    watchdog.start()
    _carry_out(worker, {"id": None, "verb": "close", "arguments": {}}, answers, explain)
    os._exit(0)


def _carry_out(
    worker: object, message: dict[str, Any], answers: Answers, explain: Callable[[BaseException], tuple[Kind, str]]
) -> None:
    number, verb = message["id"], message["verb"]
    try:
        result = getattr(worker, f"do_{verb}")(**message["arguments"])
    except (Exception, Unreachable) as error:  # noqa: BLE001  (told to the parent, whatever it is)
        kind, text = explain(error)
        if number is None:
            answers.note(lost=verb, message=text)
        else:
            answers.write({"id": number, "error": {"kind": kind, "message": text}})
        return
    if number is not None:
        answers.write({"id": number, "result": result})


def plain_explanation(error: BaseException) -> tuple[Kind, str]:
    """Class and text of an error, for workers of trackers, which are not asked to try again."""
    return "refused", f"{type(error).__name__}: {error}"


class RunWorker:
    """What the workers of trackers have in common whose client sends by itself and gives a run to finish."""

    _run: Any = None

    def do_flush(self) -> None:
        """Nothing: the client sends at once."""

    def do_close(self) -> None:
        """Let the client end the run, after all of it was sent."""
        if self._run is not None:
            self._run.finish()
