"""A Python process of its own for a library that would change the whole process it runs in.

Parent and worker exchange lines of JSON over the worker's standard input and output:

```
-> {"id": 3, "verb": "push", "arguments": {...}}        id is null where no answer is wanted
<- {"id": 3, "result": ...}    or    {"id": 3, "error": {"kind": "unreachable", "message": "..."}}
<- {"note": {...}}             what the worker has to say without being asked
```

The worker ends when its input does, however the parent ended.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import queue
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from rl_framework.errors import ConnectorError, MissingArchiveError, UnreachableServiceError

MOST_WAITING = 100_000
EXIT_PATIENCE = 10.0
KEPT_LINES = 20

_log = logging.getLogger(__name__)

ERRORS: Mapping[str, type[ConnectorError] | type[MissingArchiveError]] = {
    "unreachable": UnreachableServiceError,
    "refused": ConnectorError,
}


class WorkerProcess:
    """Starts a module as a process, and hands it work.

    Args:
        module: What `python -m` runs.
        name: What it stands for, in messages.
        on_note: Takes what the worker says unasked; called in a thread of this object.
        redact: Takes secrets out of what the worker prints.
    """

    def __init__(
        self,
        module: str,
        name: str,
        *,
        on_note: Callable[[dict[str, Any]], None],
        redact: Callable[[str], str] = lambda text: text,
    ) -> None:
        self._name = name
        self._process = _start(module)
        self._outgoing: queue.Queue[bytes | None] = queue.Queue(MOST_WAITING)
        self._waiting: dict[int, Future[Any]] = {}
        self._numbers = itertools.count()
        self._printed: deque[str] = deque(maxlen=KEPT_LINES)
        self._threads = (
            threading.Thread(target=_write_lines, args=(self._process, self._outgoing), daemon=True),
            threading.Thread(target=_read_answers, args=(self._process, self._waiting, on_note), daemon=True),
            threading.Thread(target=_keep_printed, args=(self._process, self._printed, redact), daemon=True),
        )
        for thread in self._threads:
            thread.start()
        self._finalizer = weakref.finalize(self, _end, self._process, self._outgoing, self._threads, EXIT_PATIENCE)

    @property
    def alive(self) -> bool:
        """Whether it can take work."""
        return self._finalizer.alive and self._process.poll() is None

    def post(self, verb: str, **arguments: Any) -> bool:
        """Hand over work without waiting.

        Returns:
            False if it cannot be taken: the worker is gone, or too much is waiting.
        """
        return self.alive and self._put({"id": None, "verb": verb, "arguments": arguments})

    def request(self, verb: str, *, deadline: float, **arguments: Any) -> Any:
        """Hand over work, and wait for its result. A worker that misses the deadline is ended.

        Raises:
            UnreachableServiceError: No answer in time, or the worker says that the service cannot be reached.
            ConnectorError: The worker says that it cannot be done.
        """
        number, answer = next(self._numbers), Future[Any]()
        self._waiting[number] = answer
        try:
            if not (self.alive and self._put({"id": number, "verb": verb, "arguments": arguments})):
                raise UnreachableServiceError(f"The process for {self._name} takes no work.{self._last_words()}")
            return answer.result(deadline)
        except FutureTimeoutError as error:
            self.kill()
            raise UnreachableServiceError(f"{self._name} did not answer within {deadline:.0f} seconds.") from error
        except EOFError as error:
            raise UnreachableServiceError(f"The process for {self._name} has died.{self._last_words()}") from error
        finally:
            self._waiting.pop(number, None)

    def stop(self, patience: float) -> bool:
        """Let it finish what it has, and end; after some seconds by force.

        Returns:
            Whether it ended by itself.
        """
        self._finalizer.detach()
        return _end(self._process, self._outgoing, self._threads, patience)

    def kill(self) -> None:
        """End it at once."""
        self.stop(0.0)

    def _put(self, message: Mapping[str, Any]) -> bool:
        try:
            self._outgoing.put_nowait(json.dumps(message).encode() + b"\n")
        except queue.Full:
            return False
        return True

    def _last_words(self) -> str:
        return f" It printed: {' | '.join(self._printed)}" if self._printed else ""


def _start(module: str) -> subprocess.Popen[bytes]:
    """Apart from the terminal's Ctrl-C, which is for the parent."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    try:
        return subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
    except OSError as error:
        raise ConnectorError(f"Cannot start a process for {module}: {error}") from error


def _write_lines(process: subprocess.Popen[bytes], outgoing: queue.Queue[bytes | None]) -> None:
    """Write until there is nothing more to come, or nobody reads."""
    stream = _of(process.stdin)
    with suppress(OSError, ValueError):
        while (line := outgoing.get()) is not None:
            stream.write(line)
            stream.flush()
    with suppress(OSError):
        stream.close()


def _read_answers(
    process: subprocess.Popen[bytes], waiting: dict[int, Future[Any]], on_note: Callable[[dict[str, Any]], None]
) -> None:
    for line in _of(process.stdout):
        message = json.loads(line)
        if "note" in message:
            on_note(message["note"])
        else:
            _settle(waiting.get(message["id"]), message)
    for answer in list(waiting.values()):
        if not answer.done():
            answer.set_exception(EOFError())


def _settle(answer: Future[Any] | None, message: Mapping[str, Any]) -> None:
    if answer is None:
        return
    error = message.get("error")
    if error is None:
        answer.set_result(message["result"])
    else:
        answer.set_exception(ERRORS[error["kind"]](error["message"]))


def _keep_printed(process: subprocess.Popen[bytes], printed: deque[str], redact: Callable[[str], str]) -> None:
    for line in _of(process.stderr):
        text = redact(line.decode(errors="replace").rstrip())
        if text:
            printed.append(text)
            _log.debug("%s", text)


def _end(
    process: subprocess.Popen[bytes],
    outgoing: queue.Queue[bytes | None],
    threads: tuple[threading.Thread, ...],
    patience: float,
) -> bool:
    with suppress(queue.Full):
        outgoing.put_nowait(None)
    try:
        process.wait(patience)
        in_time = True
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        in_time = False
    for thread in threads:
        thread.join(EXIT_PATIENCE)
    for stream in (process.stdin, process.stdout, process.stderr):
        with suppress(OSError):
            _of(stream).close()
    return in_time


def _of(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise ConnectorError("The process was started without its streams.")
    return stream
