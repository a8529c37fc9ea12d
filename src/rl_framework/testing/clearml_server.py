"""A ClearML service on this machine: the API calls that the `clearml` client makes, and a file server.

```python
with LoopbackClearML() as server:
    environment = server.environment()          # for the process that uses the client
    ...
    server.scalars(task_id)
```

It keeps everything in memory, trusts one pair of keys, and may be told to misbehave (`faults`). The steps of the
protocol, by which faults are injected, are the names of the API calls, such as `models.edit`, and for the file server
`put file`, `file` and `delete file`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import unquote

from rl_framework.testing.clearml_records import ClearMLRecords, Document
from rl_framework.testing.loopback import Action, Answer, LoopbackServer, Request, Route
from rl_framework.testing.loopback_faults import Fault, Faults

API_VERSION = "2.23"
TOKEN_SECONDS = 24 * 3600
SINGLE_VALUE_ITERATION = -(2**31)
FILE = "/files(/(?P<path>.*))?"
CALL = "/(.*/)?(?P<call>[^/]*)"

History = dict[str, list[tuple[int | None, float]]]


class LoopbackClearML(LoopbackServer):
    """Speaks what the `clearml` client of version 2.1 says.

    Args:
        faults: What goes wrong; can be exchanged at any time.

    Attributes:
        access_key: The key that lets in, with
        secret_key: its secret half.
        records: Projects, tasks, models and events.
        files: Contents of the file server by path.
        unknown_calls: API calls that it has no answer to.
    """

    def __init__(self, faults: Faults | None = None) -> None:
        super().__init__(faults)
        self.access_key = secrets.token_hex(8)
        self.secret_key = secrets.token_hex(16)
        self.records = ClearMLRecords()
        self.files: dict[str, bytes] = {}
        self.unknown_calls: list[str] = []

    def environment(self) -> dict[str, str]:
        """The environment variables by which a client finds it."""
        return {
            "CLEARML_API_HOST": self.url,
            "CLEARML_WEB_HOST": self.url,
            "CLEARML_FILES_HOST": f"{self.url}/files",
            "CLEARML_API_ACCESS_KEY": self.access_key,
            "CLEARML_API_SECRET_KEY": self.secret_key,
        }

    def routes(self) -> Sequence[Route]:
        """The file server, and the API calls."""
        return [
            Route("put file", "POST", FILE, self._knowing(self._put_file)),
            Route("file", "GET", FILE, self._knowing(self._file)),
            Route("file", "HEAD", FILE, self._knowing(self._file)),
            Route("delete file", "DELETE", FILE, self._knowing(self._delete_file)),
            Route("{call}", "GET", CALL, self._call),
            Route("{call}", "POST", CALL, self._call),
        ]

    def refusal(self, fault: Fault) -> Answer:
        """Plain text, as a gateway before the service says it."""
        return Answer(status=fault.status or 500, body=fault.message.encode(), headers=fault.headers)

    def scalars(self, task: str) -> History:
        """A task's numbers by metric and variant, `"metric/variant"`, in the order of arrival."""
        history: History = {}
        for event in self.records.events_of(task, "training_stats_scalar"):
            step = None if event["iter"] == SINGLE_VALUE_ITERATION else int(event["iter"])
            history.setdefault(f"{event['metric']}/{event['variant']}", []).append((step, float(event["value"])))
        return history

    def console(self, task: str) -> str:
        """All that a task has written to its console."""
        return "\n".join(str(event["msg"]) for event in self.records.events_of(task, "log"))

    def debug_samples(self, task: str) -> list[Document]:
        """What a task shows as debug samples, with `content` where the file server holds it."""
        samples = self.records.events_of(task, "training_debug_image")
        return [{**sample, "content": self.content(str(sample.get("url", "")))} for sample in samples]

    def content(self, url: str) -> bytes | None:
        """A file by the address that the client noted."""
        return self.files.get(_plain(url.removeprefix(f"{self.url}/files/")))

    def _knowing(self, action: Action) -> Action:
        return lambda request: action(request) if self._is_known(request) else Answer(status=401)

    def _put_file(self, request: Request) -> Answer:
        for path, content in _parts_of(request):
            self.files[_plain(path.lstrip("/"))] = content
        return Answer()

    def _file(self, request: Request) -> Answer:
        content = self.files.get(_plain(request.arguments["path"]))
        if content is None:
            return Answer(status=404)
        return Answer(body=content, headers={"Content-Type": "application/octet-stream"})

    def _delete_file(self, request: Request) -> Answer:
        deleted = self.files.pop(_plain(request.arguments["path"]), None)
        return Answer(status=404 if deleted is None else 200)

    def _call(self, request: Request) -> Answer:
        name = request.arguments["call"]
        if name == "debug.ping":
            return _envelope(name, 200, {"msg": "loopback"}, "OK")
        if name == "auth.login":
            return self._login(request)
        if not self._is_known(request):
            return _envelope(name, 401, {}, "Unauthorized (invalid token)")
        verb = self.records.verb(name)
        if verb is None:
            self.unknown_calls.append(name)
            return _envelope(name, 400, {}, f"Invalid request path {name}")
        return _carry_out(name, verb, _documents(request.body()))

    def _login(self, request: Request) -> Answer:
        given = request.headers.get("authorization", "")
        pair = base64.b64encode(f"{self.access_key}:{self.secret_key}".encode()).decode()
        if given != f"Basic {pair}" and not self._is_known(request):
            return _envelope("auth.login", 401, {}, "Unauthorized (invalid credentials)")
        return _envelope("auth.login", 200, {"token": self._token()}, "OK")

    def _token(self) -> str:
        """A JSON web token as the service issues it. Source: RFC 7519."""
        now = int(time.time())
        claims = {"iat": now, "exp": now + TOKEN_SECONDS, "api_version": API_VERSION, "server_version": "2.0.0"}
        parts = ({"alg": "HS256", "typ": "JWT"}, {**claims, "feature_set": "basic", "env": "loopback"})
        signed = ".".join(_base64(json.dumps(part).encode()) for part in parts)
        seal = hmac.new(self.secret_key.encode(), signed.encode(), hashlib.sha256).digest()
        return f"{signed}.{_base64(seal)}"

    def _is_known(self, request: Request) -> bool:
        signed, _, seal = request.headers.get("authorization", "").removeprefix("Bearer ").rpartition(".")
        expected = hmac.new(self.secret_key.encode(), signed.encode(), hashlib.sha256).digest()
        return hmac.compare_digest(seal, _base64(expected))


def _carry_out(name: str, verb: Callable[[Document], Document], documents: list[Document]) -> Answer:
    try:
        results = [verb(document) for document in documents]
    except KeyError as error:
        return _envelope(name, 400, {}, f"Invalid {error.args[0]}")
    return _envelope(name, 200, results[-1] if results else {}, "OK")


def _envelope(name: str, code: int, data: Document, message: str) -> Answer:
    meta = {
        "id": "0",
        "trx": "0",
        "endpoint": {"name": name, "requested_version": API_VERSION, "actual_version": "1.0"},
        "result_code": code,
        "result_subcode": 0,
        "result_msg": message,
        "error_stack": "",
    }
    return Answer.of({"meta": meta, "data": data}, code)


def _documents(body: bytes) -> list[Document]:
    """One JSON value, or one per line: `events.add_batch` sends lines, and lines may hold lists."""
    documents: list[Any] = []
    for line in body.decode().splitlines():
        if line.strip():
            value = json.loads(line)
            documents += value if isinstance(value, list) else [value]
    return documents or [{}]


def _parts_of(request: Request) -> list[tuple[str, bytes]]:
    """The files of a multipart body by their names. Source: RFC 7578."""
    boundary = request.headers["content-type"].partition("boundary=")[2].strip('"').encode()
    parts = []
    for part in request.body().split(b"--" + boundary)[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        parts.append((_part_name(head.decode()), content.removesuffix(b"\r\n")))
    return parts


def _plain(path: str) -> str:
    """A path without percent signs: the client quotes those of artifacts twice, and those of models once."""
    return unquote(unquote(path))


def _part_name(head: str) -> str:
    return head.partition('filename="')[2].partition('"')[0] or head.partition('name="')[2].partition('"')[0]


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
