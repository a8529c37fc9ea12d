"""A ClearML service on loopback for the tests, and connectors that find it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rl_framework.connectors.clearml import ClearMLConnector
from rl_framework.connectors.outbox import Outbox
from rl_framework.connectors.retries import RetryPolicy
from rl_framework.testing.clearml_server import LoopbackClearML

VARIABLES = ("CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY", "CLEARML_API_HOST", "CLEARML_OFFLINE_MODE")


def isolate(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Keep what ClearML and this library write below a folder of the test, and let no setting of the user in."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLEARML_CONFIG_FILE", str(folder / "no-clearml.conf"))
    monkeypatch.setenv("CLEARML_CACHE_DIR", str(folder / "clearml"))
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.setenv("RL_FRAMEWORK_OUTBOX", str(folder / "outbox"))
    monkeypatch.setenv("RL_FRAMEWORK_CACHE", str(folder / "cache"))


@contextmanager
def served(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[LoopbackClearML]:
    """A service that connectors of this test find."""
    isolate(monkeypatch, folder)
    with LoopbackClearML() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server


def make_connector(folder: Path, task: str | None = "ppo", *, offline: bool | None = None) -> ClearMLConnector:
    """A connector that gives up soon."""
    return ClearMLConnector(
        "rl", task, offline=offline, outbox=Outbox(folder / "outbox"), retry_policy=RetryPolicy(first_delay=0.05)
    )


def server_environment(port: int) -> dict[str, str]:
    """The settings of a service at a port where there may be none."""
    address = f"http://127.0.0.1:{port}"
    keys = {"CLEARML_API_ACCESS_KEY": "key", "CLEARML_API_SECRET_KEY": "secret"}
    return {"CLEARML_API_HOST": address, "CLEARML_WEB_HOST": address, "CLEARML_FILES_HOST": address, **keys}


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
