from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rl_framework.connectors import worker_process
from rl_framework.connectors.worker_process import WorkerProcess
from rl_framework.errors import ConnectorError, UnreachableServiceError

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("ECHO_CLOSED", str(tmp_path / "closed"))


@pytest.fixture
def notes() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def worker(notes: list[dict[str, Any]]) -> Iterator[WorkerProcess]:
    process = WorkerProcess("tests.connectors.echo_worker", "Echo", on_note=notes.append)
    yield process
    process.kill()


def test_answers_and_notes_come_in_order(worker: WorkerProcess, notes: list[dict[str, Any]], tmp_path: Path) -> None:
    assert worker.post("note", value=1)
    assert worker.request("echo", deadline=30, value={"ä": [1, None]}) == {"ä": [1, None]}
    assert notes == [{"value": 1}]
    assert worker.stop(30)
    assert (tmp_path / "closed").read_text() == "closed"


def test_failures_are_errors_here_or_notes(worker: WorkerProcess, notes: list[dict[str, Any]]) -> None:
    with pytest.raises(UnreachableServiceError, match="nobody there"):
        worker.request("fail", deadline=30, kind="unreachable")
    with pytest.raises(ConnectorError, match="never"):
        worker.request("fail", deadline=30, kind="refused")
    worker.post("fail", kind="refused")
    with pytest.raises(ConnectorError, match="do_unknown"):
        worker.request("unknown", deadline=30)
    assert notes == [{"lost": "fail", "message": "never"}]


def test_a_worker_that_misses_a_deadline_is_ended(worker: WorkerProcess) -> None:
    worker.request("echo", deadline=30, value=1)
    begun = time.monotonic()
    with pytest.raises(UnreachableServiceError, match="did not answer within"):
        worker.request("sleep", deadline=0.2, seconds=60)
    assert time.monotonic() - begun < 20
    assert not worker.alive
    assert not worker.post("echo", value=1)
    with pytest.raises(UnreachableServiceError, match="takes no work"):
        worker.request("echo", deadline=30, value=1)


def test_a_worker_that_dies_says_what_it_printed(worker: WorkerProcess) -> None:
    with pytest.raises(UnreachableServiceError, match="has died"):
        worker.request("die", deadline=30)
    worker.stop(10)
    with pytest.raises(UnreachableServiceError, match="my last words"):
        worker.request("echo", deadline=30, value=1)


def test_what_is_too_much_is_not_taken(monkeypatch: pytest.MonkeyPatch, notes: list[dict[str, Any]]) -> None:
    monkeypatch.setattr(worker_process, "MOST_WAITING", 3)
    worker = WorkerProcess("tests.connectors.echo_worker", "Echo", on_note=notes.append)
    worker.post("sleep", seconds=60)
    taken = [worker.post("echo", value="x" * 100_000) for _ in range(50)]
    assert not all(taken)
    worker.kill()


def test_a_worker_outlives_a_parent_that_does_not_close_it_just_long_enough(tmp_path: Path) -> None:
    program = (
        "from rl_framework.connectors.worker_process import WorkerProcess\n"
        "worker = WorkerProcess('tests.connectors.echo_worker', 'Echo', on_note=print)\n"
        "worker.post('sleep', seconds=0.2)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, env=dict(os.environ))
    assert (tmp_path / "closed").read_text() == "closed"


def test_a_module_that_does_not_exist_is_told(notes: list[dict[str, Any]]) -> None:
    worker = WorkerProcess("tests.connectors.no_such_worker", "Echo", on_note=notes.append)
    with pytest.raises(UnreachableServiceError, match=r"has died|takes no work"):
        worker.request("echo", deadline=30, value=1)
    worker.kill()
