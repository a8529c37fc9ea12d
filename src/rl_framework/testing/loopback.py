"""An HTTP server on loopback that plays a service, and lets requests fail as a test wants it."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

from typing_extensions import Self

from rl_framework.testing.loopback_faults import Fault, Faults, NoFaults

CHUNK_BYTES = 2**16
PIECES_OF_SLOW_ANSWER = 10
STOP_PATIENCE = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What a client asks.

    Attributes:
        method: GET, HEAD, POST, PUT or DELETE.
        target: Path and query, as they were sent.
        path: Without the query, percent escapes kept.
        query: First value of each parameter.
        headers: By name in lower case.
        arguments: What the route's pattern has named, unquoted.
        chunks: The body as it arrives; it can be read once.
    """

    method: str
    target: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    arguments: Mapping[str, str]
    chunks: Iterator[bytes]

    def body(self) -> bytes:
        """The body, in memory."""
        return b"".join(self.chunks)

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body() or b"{}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What the service says.

    Attributes:
        status: HTTP status.
        body: The bytes, or the file that holds them.
        headers: Further headers.
    """

    status: int = 200
    body: bytes | Path = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
        """An answer in JSON."""
        described = {"Content-Type": "application/json", **(headers or {})}
        return cls(status=status, body=json.dumps(value).encode(), headers=described)

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return len(self.body) if isinstance(self.body, bytes) else self.body.stat().st_size


Action: TypeAlias = Callable[[Request], Answer]


@dataclass(frozen=True, slots=True)
class Route:
    """One request that the service knows.

    Attributes:
        step: Its name in the protocol, by which faults are injected; `{name}` in it stands for that argument.
        method: HTTP method.
        pattern: The whole path; named groups become arguments.
        action: What it does.
    """

    step: str
    method: str
    pattern: str
    action: Action


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """One request that has arrived, for tests to look at.

    Attributes:
        step: Its name in the protocol; "unknown" if the service has no such route.
        method: HTTP method.
        target: Path and query.
        headers: By name in lower case.
        fault: What was injected.
    """

    step: str
    method: str
    target: str
    headers: Mapping[str, str]
    fault: Fault | None

    @property
    def host(self) -> str:
        """The host that the client believes to talk to."""
        return self.headers.get("host", "").partition(":")[0]


class LoopbackServer:
    """Serves routes on a free port of 127.0.0.1 while its block lasts.

    Args:
        faults: What goes wrong; can be exchanged at any time.
    """

    def __init__(self, faults: Faults | None = None) -> None:
        self.faults: Faults = faults or NoFaults()
        self.seen: list[Seen] = []
        self._http: _Http | None = None
        self._thread: threading.Thread | None = None
        self._port = 0

    @property
    def port(self) -> int:
        """The port; 0 before the first start. A server that starts again keeps it."""
        return self._port

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._port}"

    def routes(self) -> Sequence[Route]:
        """What the service can do."""
        raise NotImplementedError

    def refusal(self, fault: Fault) -> Answer:
        """What is said instead of an answer; for services whose errors do not look like this, to override."""
        return Answer.of({"error": fault.message}, fault.status or 500, fault.headers)

    def start(self) -> Self:
        """Listen."""
        self._http = _Http(("127.0.0.1", self._port), _Handler, self)
        self._port = int(self._http.server_address[1])
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Cut all connections and stop listening; calling it twice is fine."""
        http, thread = self._http, self._thread
        self._http = self._thread = None
        if http is not None and thread is not None:
            http.shutdown()
            http.cut_connections()
            http.server_close()
            thread.join(STOP_PATIENCE)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def steps(self) -> list[str]:
        """The steps of the requests so far."""
        return [request.step for request in self.seen]


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], owner: LoopbackServer) -> None:
        super().__init__(address, handler)
        self.owner = owner
        self.table = [(route, re.compile(route.pattern)) for route in owner.routes()]
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def note_open(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)

    def note_closed(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)

    def cut_connections(self) -> None:
        with self._lock:
            for connection in self._open:
                _cut(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away, or is killed, is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Http

    def setup(self) -> None:
        super().setup()
        self.server.note_open(self.connection)

    def finish(self) -> None:
        self.server.note_closed(self.connection)
        with suppress(OSError, ValueError):
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the base class calls it so)
        """Stay silent."""

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_GET  # noqa: N815

    def _serve(self) -> None:
        owner, parts = self.server.owner, urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        route, arguments = self._route(parts.path)
        step = route.step.format_map(arguments) if route else "unknown"
        fault = owner.faults.next(step)
        owner.seen.append(Seen(step=step, method=self.command, target=self.path, headers=headers, fault=fault))
        request = Request(
            method=self.command,
            target=self.path,
            path=parts.path,
            query={name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()},
            headers=headers,
            arguments=arguments,
            chunks=_chunks(self.rfile, headers),
        )
        self._answer(route, request, fault or Fault())

    def _route(self, path: str) -> tuple[Route | None, dict[str, str]]:
        for route, pattern in self.server.table:
            found = pattern.fullmatch(path) if route.method == self.command else None
            if found:
                return route, {name: unquote(text or "") for name, text in found.groupdict().items()}
        return None, {}

    def _answer(self, route: Route | None, request: Request, fault: Fault) -> None:
        time.sleep(fault.pause)
        if fault.drop == "before":
            self._drop()
            return
        if fault.status is not None:
            answer = self.server.owner.refusal(fault)
        elif route is None:
            answer = Answer.of({"error": f"unknown request {request.method} {request.path}"}, 501)
        else:
            answer = route.action(request)
        for _ in request.chunks:
            continue
        if fault.drop == "after":
            self._drop()
        else:
            self._write(answer, fault.trickle)

    def _write(self, answer: Answer, trickle: float) -> None:
        self.send_response(answer.status)
        for name, text in answer.headers.items():
            self.send_header(name, text)
        if "Content-Length" not in answer.headers:
            self.send_header("Content-Length", str(answer.size))
        self.end_headers()
        if self.command != "HEAD":
            for piece in _pieces(answer, trickle):
                time.sleep(trickle / PIECES_OF_SLOW_ANSWER)
                self.wfile.write(piece)

    def _drop(self) -> None:
        self.close_connection = True
        _cut(self.connection)


def _pieces(answer: Answer, trickle: float) -> Iterator[bytes]:
    if isinstance(answer.body, bytes):
        size = max(1, -(-len(answer.body) // PIECES_OF_SLOW_ANSWER)) if trickle else len(answer.body) or 1
        yield from (answer.body[start : start + size] for start in range(0, len(answer.body), size))
        return
    with answer.body.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _chunks(stream: Any, headers: Mapping[str, str]) -> Iterator[bytes]:
    """The body of a request, with a length or in chunks (RFC 9112, section 7.1)."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int(stream.readline().split(b";")[0] or b"0", 16):
            yield stream.read(size)
            stream.readline()
        stream.readline()
        return
    left = int(headers.get("content-length") or 0)
    while left > 0 and (chunk := stream.read(min(left, CHUNK_BYTES))):
        left -= len(chunk)
        yield chunk


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
