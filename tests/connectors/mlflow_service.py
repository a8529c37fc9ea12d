"""Looks at what is in MLflow's database and files, and starts its server."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rl_framework.testing.connectors import History, contents
from rl_framework.testing.loopback import Answer, LoopbackServer, Request, Route
from rl_framework.testing.loopback_faults import Fault

JOBS_OFF = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_LOGGING_LEVEL": "WARNING"}
HOP_BY_HOP = ("host", "content-length", "connection", "transfer-encoding")
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH")
CALL = "(.*/mlflow)?/(?P<call>.*)"
START_SECONDS = 180.0

MAKE_DATABASE = """
import sys
from mlflow import MlflowClient
MlflowClient(tracking_uri=sys.argv[1]).search_experiments()
"""


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    status: str
    values: History
    parameters: dict[str, str]
    files: dict[str, bytes]


def make_database(path: Path) -> Path:
    _run(MAKE_DATABASE, f"sqlite:///{path}")
    return path


def read_run(folder: Path, run_id: str | None) -> StoredRun:
    """A run out of the database and files in a folder, without the seconds that importing MLflow takes."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        (status,) = database.execute("SELECT status FROM runs WHERE run_uuid = ?", (run_id,)).fetchone()
        parameters = dict(database.execute("SELECT key, value FROM params WHERE run_uuid = ?", (run_id,)))
        points = database.execute(
            "SELECT key, step, value, is_nan FROM metrics WHERE run_uuid = ?", (run_id,)
        ).fetchall()
    values: History = {}
    for key, step, value, is_nan in sorted(points):
        values.setdefault(key, []).append((step, float("nan") if is_nan else value))
    files = {
        name: content for path in folder.glob(f"**/{run_id}/artifacts") for name, content in contents(path).items()
    }
    return StoredRun(status=status, values=values, parameters=parameters, files=files)


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """A real server with the given database folder; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--artifacts-destination", str(folder / "files")),
    ]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env={**os.environ, **QUIET, **JOBS_OFF},
            stdout=log,
            stderr=log,
            cwd=folder,
            start_new_session=True,
        )
    try:
        _wait_until_healthy(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        _stop_group(process)


class FailingWay(LoopbackServer):
    """Passes requests on to a server, and misbehaves on the way; its steps are named as `model-versions/create`."""

    target = ""

    def routes(self) -> Sequence[Route]:
        return [Route("{call}", method, CALL, self._pass_on) for method in METHODS]

    def refusal(self, fault: Fault) -> Answer:
        return Answer(status=fault.status or 500, body=fault.message.encode(), headers=fault.headers)

    def _pass_on(self, request: Request) -> Answer:
        host, _, port = self.target.removeprefix("http://").partition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=60)
        headers = {k: v for k, v in request.headers.items() if k not in HOP_BY_HOP}
        connection.request(request.method, request.target, request.body(), headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return Answer(status=answer.status, body=body, headers={"Content-Type": answer.getheader("Content-Type") or ""})


def _stop_group(process: subprocess.Popen[bytes]) -> None:
    """The server starts processes of its own."""
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_until_healthy(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.2)
        finally:
            connection.close()
    raise RuntimeError("the MLflow server did not start")


def _run(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], env={**os.environ, **QUIET}, capture_output=True, check=True
    )
    return done.stdout.decode().splitlines()[-1] if done.stdout.strip() else ""
