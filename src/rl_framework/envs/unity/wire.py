"""Our end of ML-Agents' wire: a gRPC server with one method, on which one player calls and waits for answers.

The player sends a message and is blocked until it is answered, so every call of ours is "answer the last message,
then wait for the next". Every wait has a limit, and looks ten times a second whether the player still lives.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import Empty, SimpleQueue
from typing import Any

from rl_framework.envs.unity.package import (
    UnityMessageProto,
    UnityToExternalProtoServicer,
    add_UnityToExternalProtoServicer_to_server,
    grpc,
)
from rl_framework.envs.unity.player_log import PlayerLog
from rl_framework.envs.unity.process import PlayerProcess
from rl_framework.errors import (
    EnvironmentFailure,
    InvalidInputError,
    UnityFailure,
    UnityPlayerDied,
    UnityPortInUse,
    UnityStopped,
    UnityTimeout,
    UnityVersionMismatch,
)

GO_ON, CLOSING = 200, 400
POLL_SECONDS = 0.1
FAREWELL_SECONDS = 1.0
OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)


class Wire:
    """A server on one port for one player.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 for a free one, which nobody else can take in between.
        timeout: Seconds for the handshake, and for each answer of the player.
        index: Which of several players is awaited.

    Attributes:
        port: The port that it listens on.
        owner: Id of the process that opened it; gRPC does not survive a fork.

    Raises:
        UnityPortInUse: Somebody else listens on the port.
        InvalidInputError: The address is none of this machine's.
        EnvironmentFailure: This process was forked from one in which a player was open.
    """

    def __init__(self, host: str, port: int, timeout: float, index: int = 0) -> None:
        _refuse_forked(index)  # Before all else: after a fork even a new thread of Python's can crash beside gRPC.
        self._log = PlayerLog(index=index)
        self._check_alive: Callable[[], None] = _nothing
        self._timeout = timeout
        self.owner = os.getpid()
        self._mailbox = Mailbox()
        _check_port(host, port, self._log)
        calls = DaemonExecutor()
        self._server = grpc.server(calls, options=OPTIONS)
        self._hang_up = weakref.finalize(self, _hang_up, self._server, self._mailbox, calls, self.owner)
        self._hang_up.atexit = False
        add_UnityToExternalProtoServicer_to_server(self._mailbox, self._server)
        _OWNERS[id(self._mailbox)] = self.owner
        try:
            self.port = self._bind(host, port)
        except BaseException:
            self.close()
            raise
        self._server.start()

    def watch(self, process: PlayerProcess) -> None:
        """Notice from now on when this player dies, and let errors carry its log."""
        self._log = process.log
        self._check_alive = process.check

    def handshake(self, inputs: Any) -> Any:
        """Wait for the player's first message, answer it, and wait for its second, all within the limit.

        Args:
            inputs: Our part of the handshake, a `UnityInputProto`.

        Returns:
            The player's part, a `UnityOutputProto`.

        Raises:
            UnityTimeout: It took too long.
            UnityPlayerDied: It died meanwhile.
            UnityVersionMismatch: It speaks another version of the protocol.
            UnityStopped: It says that it stops.
        """
        deadline = time.monotonic() + self._timeout
        first = self._receive(deadline, "connect").unity_output
        self._check_version(first.rl_initialization_output, inputs.rl_initialization_input.communication_version)
        self._answer(inputs)
        self._receive(deadline, "finish the handshake")
        return first

    def exchange(self, inputs: Any) -> Any:
        """Answer the player and wait for its next message.

        Args:
            inputs: A `UnityInputProto`.

        Returns:
            A `UnityOutputProto`.

        Raises:
            UnityTimeout: It took too long; what it says later belongs to no question of ours, so close.
            UnityPlayerDied: It died meanwhile.
            UnityStopped: It says that it stops.
            EnvironmentFailure: This process is a fork of the one that opened the player.
        """
        self.check_owner()
        if self._mailbox.caller_is_gone():
            self._check_alive()
            raise self._log.failure(UnityPlayerDied, "The Unity player went away while it waited for an answer.")
        self._answer(inputs)
        return self._receive(time.monotonic() + self._timeout, "answer").unity_output

    def close(self) -> None:
        """Tell the player that it is over and free the port; again and again if need be."""
        stopped = self._hang_up()
        if stopped is not None:
            stopped.wait(2 * FAREWELL_SECONDS)

    def check_owner(self) -> None:
        """Refuse to go on in a process that was forked: gRPC would crash it.

        Raises:
            EnvironmentFailure: It was.
        """
        if os.getpid() != self.owner:
            raise EnvironmentFailure(_FORKED, row=self._log.index)

    def _bind(self, host: str, port: int) -> int:
        with contextlib.suppress(RuntimeError):
            bound = int(self._server.add_insecure_port(f"{host}:{port}"))
            if bound != 0:
                return bound
        raise _port_in_use(host, port, self._log, "gRPC does not say why")

    def _answer(self, inputs: Any) -> None:
        message = UnityMessageProto()
        message.header.status = GO_ON
        message.unity_input.CopyFrom(inputs)
        self._mailbox.answers.put(message)

    def _receive(self, deadline: float, task: str) -> Any:
        while True:
            try:
                message = self._mailbox.received.get(timeout=POLL_SECONDS)
            except Empty:
                self._check_alive()
                if time.monotonic() < deadline:
                    continue
                raise self._log.failure(UnityTimeout, _too_slow(task, self._timeout)) from None
            if message.header.status not in (GO_ON, 0):
                raise self._log.failure(UnityStopped, f"The Unity player stopped (status {message.header.status}).")
            return message

    def _check_version(self, theirs: Any, ours: str) -> None:
        if _compatible_part(theirs.communication_version) != _compatible_part(ours):
            raise self._log.failure(
                UnityVersionMismatch,
                f"The Unity player speaks version {theirs.communication_version or 'none'} of the ML-Agents protocol "
                f"(package {theirs.package_version or 'unknown'}), expected {ours}. Build it with a Unity package "
                "com.unity.ml-agents 2.0 or newer.",
            )


class Mailbox(UnityToExternalProtoServicer):  # type: ignore[misc]  # the package has no types
    """Hands messages between gRPC's thread and ours.

    Attributes:
        received: Messages of the player that we have not read.
        answers: Answers of ours that were not sent yet.
    """

    def __init__(self) -> None:
        self.received: SimpleQueue[Any] = SimpleQueue()
        self.answers: SimpleQueue[Any] = SimpleQueue()
        self._context: Any = None

    def Exchange(self, request: Any, context: Any) -> Any:  # noqa: N802  named by the protocol
        """One message of the player; it is held until we have an answer. Whoever calls after it is turned away."""
        if self._context is not None and self._context.peer() != context.peer():
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "Another player has called before.")
        self._context = context
        self.received.put(request)
        return self.answers.get()

    def caller_is_gone(self) -> bool:
        """Whether the player that should wait for our answer has hung up."""
        return self._context is not None and not self._context.is_active()


class DaemonExecutor(Executor):
    """Runs calls one after the other on a thread that never keeps Python from ending.

    The threads of the standard pool are joined at exit, and a player that nobody closed blocks one for ever.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        threading.Thread(target=_work, args=(self._calls,), name="unity-wire", daemon=True).start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Queue a call."""
        future: Future[Any] = Future()
        self._calls.put((future, lambda: fn(*args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002  as in the base class
        """Let the thread end once it has done what is queued."""
        self._calls.put(None)


def _work(calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]) -> None:
    for future, call in iter(calls.get, None):
        _fulfil(future, call)


def _fulfil(future: Future[Any], call: Callable[[], Any]) -> None:
    try:
        future.set_result(call())
    except BaseException as error:  # noqa: BLE001  it belongs to whoever waits for the future
        future.set_exception(error)


_OWNERS: dict[int, int] = {}
"""Id of the process that opened it, for each open wire; players are opened by several threads at once."""
_FORKED = (
    "This process was forked while a Unity player was open, and gRPC does not survive that. Start worker processes by "
    "'spawn' or 'forkserver' (multiprocessing.get_context), or close the player before the fork."
)


def _refuse_forked(index: int) -> None:
    if set(_OWNERS.values()) - {os.getpid()}:
        raise EnvironmentFailure(_FORKED, row=index)


def _check_port(host: str, port: int, log: PlayerLog) -> None:
    """Bind a port for a moment: gRPC writes lines to the terminal where it fails, and does not say why."""
    if host.startswith("["):
        return
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except socket.gaierror as error:
        raise InvalidInputError(_no_address(host, error)) from error
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise InvalidInputError(_no_address(host, error)) from error
        raise _port_in_use(host, port, log, error.strerror) from error


def _port_in_use(host: str, port: int, log: PlayerLog, reason: str | None) -> UnityFailure:
    return log.failure(
        UnityPortInUse,
        f"Port {port} of {host} cannot be bound ({reason}). If another game, training or program has it, close that; "
        "else choose another port, or leave the port out for a free one.",
    )


def _no_address(host: str, error: OSError) -> str:
    return (
        f"Expected an address of this machine as the host of a Unity player, got {host!r} ({error.strerror}). Use "
        "127.0.0.1 for a player on this machine, and 0.0.0.0 for one elsewhere."
    )


def _too_slow(task: str, timeout: float) -> str:
    return (
        f"The Unity player did not {task} within {timeout:g} s. Give it more time (timeout), look whether it waits for "
        "somebody at the screen, whether its agents' behaviour type is 'Default', and, on a machine without a "
        "display, whether it runs without graphics."
    )


def _compatible_part(version: str) -> tuple[str, ...]:
    """The part of a version in which both sides have to agree: the first number, before 1.0 the first two."""
    parts = tuple(version.split("."))
    return parts[:2] if parts[0] == "0" else parts[:1]


def _nothing() -> None:
    """What can be asked of a player that somebody else started."""


def _hang_up(server: Any, mailbox: Mailbox, calls: DaemonExecutor, owner: int) -> threading.Event | None:
    """Tell whoever waits for an answer that it is over, and let the server and its thread end.

    Returns:
        What is set once the server has ended; None in a fork of its owner, which leaves it alone.
    """
    if os.getpid() != owner:
        return None
    _OWNERS.pop(id(mailbox), None)
    farewell = UnityMessageProto()
    farewell.header.status = CLOSING
    mailbox.answers.put(farewell)
    calls.shutdown()
    stopped: threading.Event = server.stop(FAREWELL_SECONDS)
    return stopped
