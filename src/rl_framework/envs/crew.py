"""Worker processes: started together, asked together, and none left behind."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from rl_framework.envs.messages import NOTHING, Request, Trouble, pack, unpack
from rl_framework.errors import EnvironmentFailure, EnvironmentTimeout, RLFrameworkError

_FAREWELL_SECONDS = 3.0
_GLANCE_SECONDS = 0.5

_BOOTSTRAP = """
import sys
sys.path[:] = sys.argv[1].split("\\n")
import json
order, sys.argv = json.loads(sys.argv[2]), json.loads(sys.argv[3])
from rl_framework.envs.worker import main
main(*order)
"""
"""A fresh interpreter looks for modules where this one does, and runs nothing of the user's script."""


@dataclass(frozen=True, slots=True)
class Member:
    """One worker process and the way to it."""

    row: int
    process: subprocess.Popen[bytes]
    connection: Connection
    poller: Any

    def has_message(self, seconds: float) -> bool:
        """Whether there is something to hear, or the connection has ended, within some seconds."""
        if self.poller is None:
            return self.connection.poll(seconds)
        return bool(self.poller.poll(1000 * seconds))


class Crew:
    """One worker process per row.

    Args:
        count: Number of rows.
        timeout: Seconds to wait for an answer.
    """

    def __init__(self, count: int, timeout: float) -> None:
        self._timeout = timeout
        self._members: list[Member] = []
        self._owed: set[int] = set()
        self._is_present = True
        self._finalizer = weakref.finalize(self, _dismiss, self._members, os.getpid())
        try:
            for row in range(count):
                self._members.append(start_member(row))
        except BaseException:
            self.dismiss()
            raise

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Process ids, row by row."""
        return tuple(member.process.pid for member in self._members)

    def ask_each(
        self,
        verb: str,
        arguments: Sequence[tuple[Any, ...]],
        *,
        rows: Sequence[int] | None = None,
        timeout: float | None = None,
    ) -> list[Any]:
        """Ask the rows the same thing, each with its own arguments, and wait for all answers.

        Raises:
            InvalidInputError: A worker refused the request; everything runs on.
            EnvironmentFailure: An environment failed; all workers are gone by then.
        """
        self._settle()
        chosen = range(len(self._members)) if rows is None else rows
        for row, given in zip(chosen, arguments, strict=True):
            self._tell(row, pack(Request(verb, given)))
        answers = self._collect(set(chosen), timeout or self._timeout)
        for row, answer in answers.items():
            if isinstance(answer, Trouble):
                raise answer.unpack(row)
        return [answers[row].value for row in chosen]

    def tell_all(self, data: bytes) -> None:
        """Send the same bytes to every row."""
        self._settle()
        for row in range(len(self._members)):
            self._tell(row, data)

    def hear_all(self) -> list[Any]:
        """The messages that answer `tell_all`, row by row; None for an empty one.

        Raises:
            EnvironmentFailure: An environment failed; all workers are gone by then.
        """
        answers = self._collect(set(range(len(self._members))), self._timeout)
        return [answers[row] for row in range(len(self._members))]

    def check_present(self) -> None:
        """Refuse to go on after the workers were dismissed."""
        if not self._is_present:
            raise RLFrameworkError("These environments are closed; open them anew.")

    def dismiss(self) -> None:
        """End all workers; calling it twice is fine."""
        self._is_present = False
        self._finalizer()

    def _settle(self) -> None:
        """Hear out what an interrupt (Ctrl-C) left unheard."""
        self.check_present()
        if self._owed:
            self._collect(set(self._owed), self._timeout)

    def _tell(self, row: int, data: bytes) -> None:
        try:
            self._members[row].connection.send_bytes(data)
        except ConnectionError:
            raise self._died(row) from None
        self._owed.add(row)

    def _collect(self, rows: set[int], timeout: float) -> dict[int, Any]:
        """One message from each of the rows; a refused request is among them, a failure is raised at once.

        They are heard in order: all have to answer anyway, and waiting for whichever comes first would wake this
        process, and stop a worker, once for each of them.
        """
        waiting = sorted(rows)
        messages: dict[int, Any] = {}
        deadline = time.monotonic() + timeout
        for place, row in enumerate(waiting):
            member = self._members[row]
            while not member.has_message(max(0.0, min(_GLANCE_SECONDS, deadline - time.monotonic()))):
                self._look_after(waiting[place:], timeout, is_late=time.monotonic() >= deadline)
            messages[row] = self._hear(row)
        return messages

    def _hear(self, row: int) -> Any:
        try:
            data = self._members[row].connection.recv_bytes()
        except (EOFError, ConnectionError):
            raise self._died(row) from None
        self._owed.discard(row)
        message = unpack(data) if data != NOTHING else None
        if isinstance(message, Trouble) and message.kind != "input":
            self.dismiss()
            raise message.unpack(row)
        return message

    def _look_after(self, rows: Sequence[int], timeout: float, *, is_late: bool) -> None:
        """Find out why nothing comes: another worker has failed or died, or this one is late."""
        for row in rows:
            if self._members[row].process.poll() is not None:
                self._hear(row)
        if is_late:
            silent = [row for row in rows if not self._members[row].has_message(0.0)]
            for row in silent:
                self._members[row].process.kill()
            self.dismiss()
            raise EnvironmentTimeout(
                f"no answer within {timeout:g} seconds; its process was ended. Pass a longer timeout if it is slow.",
                row=min(silent, default=rows[0]),
            )

    def _died(self, row: int) -> EnvironmentFailure:
        """End the others, and say how this one ended."""
        code = end_of(self._members[row].process)
        self.dismiss()
        how = f"exit code {code}" if code >= 0 else f"signal {-code}, exit code {code}"
        return EnvironmentFailure(f"its process ended by itself ({how}).", row=row)


def start_member(row: int) -> Member:
    """Start a worker, which does nothing yet."""
    ours, theirs = Pipe()
    order = [_handle(theirs), row, os.getpid(), threading.current_thread() is threading.main_thread()]
    paths = "\n".join(str(path) for path in sys.path)
    command = [sys.executable, "-c", _BOOTSTRAP, paths, json.dumps(order), json.dumps(sys.argv)]
    with theirs, _deaf_to_interrupts():
        process = subprocess.Popen(command, stdin=subprocess.PIPE, **_inheriting(_handle(theirs)))
    return Member(row, process, ours, _poller(ours))


def end_of(process: subprocess.Popen[bytes]) -> int:
    """Exit code of a process that is about to end, or is made to."""
    try:
        return process.wait(_FAREWELL_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Ctrl-C is for this process; a worker is started deaf to it, and says itself that it wants to ignore it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _poller(connection: Connection) -> Any:
    """Where the system has it, a way to wait that is set up once and not for every message."""
    if not hasattr(select, "poll"):
        return None
    poller = select.poll()
    poller.register(connection.fileno(), select.POLLIN)
    return poller


def _handle(connection: Connection) -> int:
    return connection.fileno()


def _inheriting(handle: int) -> dict[str, Any]:
    """Options of `Popen` that hand down one descriptor.

    The worker stays in this session: Linux schedules sessions as groups (sched(7), autogroup), and going to and fro
    between two of them was measured to be three times slower.
    """
    if sys.platform == "win32":
        os.set_handle_inheritable(handle, True)
        startup = subprocess.STARTUPINFO(lpAttributeList={"handle_list": [handle]})
        return {"startupinfo": startup, "creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"pass_fds": (handle,)}


def _dismiss(members: list[Member], owner: int) -> None:
    """Say farewell, wait a little, then insist. A forked child of the owner leaves the workers alone."""
    if os.getpid() != owner:
        return
    for member in members:
        with contextlib.suppress(OSError):
            member.connection.send_bytes(NOTHING)
    deadline = time.monotonic() + _FAREWELL_SECONDS
    for member in members:
        try:
            member.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            member.process.kill()
            member.process.wait()
        member.connection.close()
        if member.process.stdin is not None:
            member.process.stdin.close()
