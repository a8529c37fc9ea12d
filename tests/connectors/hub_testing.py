"""What the tests of the Hugging Face connector share: a Hub, caches of their own, and no pauses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import constants

from rl_framework.connectors.hub_index import INDEX_FILE
from rl_framework.connectors.huggingface import HuggingFaceConnector
from rl_framework.connectors.outbox import Outbox
from rl_framework.connectors.retries import RetryPolicy
from rl_framework.testing.connectors import contents
from rl_framework.testing.hub_repository import HubCommit
from rl_framework.testing.hub_server import HubServer

QUICK = RetryPolicy(first_delay=0.0, longest_delay=0.0)
REPOSITORY = "me/cartpole-ppo"
FILES_OF_THE_HUB = "/{repo_id}/resolve/{revision}/{filename}"


# What httpx2 says about the way in which huggingface_hub 2.4 hands it a large file.
STREAMS_FILES = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning")


def isolate(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Keep the client and the connector in folders of the test, without waiting, xet or a token of this machine."""
    cache = folder / "hub-cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "no-token"))
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=lambda seconds: None))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RL_FRAMEWORK_OUTBOX", str(folder / "outbox"))
    monkeypatch.setenv("RL_FRAMEWORK_CACHE", str(folder / "own-cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(folder / "data"))


def make_agent(folder: Path, number: int) -> Path:
    """An agent unlike every other: a small file, a large one (LFS), and one that comes and goes."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    (folder / "manifest.json").write_text(f'{{"number": {number}}}')
    (folder / "policy.safetensors").write_bytes(number.to_bytes(4, "big") * 300)
    (folder / f"only-{number % 7}").write_text(str(number // 7))
    return folder


def pushed(commit: HubCommit) -> dict[str, bytes]:
    """The agent's files in a commit."""
    return {path: file.read() for path, file in commit.files.items() if path not in (".gitattributes", INDEX_FILE)}


def check_pushes(commits: Sequence[HubCommit], numbers: Sequence[int], scratch: Path) -> None:
    """Each of the agents is there once, byte for byte, in order."""
    assert [commit.title for commit in commits] == [f"push {number}" for number in numbers]
    assert len({commit.description for commit in commits}) == len(numbers)
    for number, commit in zip(numbers, commits, strict=True):
        assert pushed(commit) == contents(make_agent(scratch, number))


def connect(hub: HubServer, folder: Path, **options: Any) -> HuggingFaceConnector:
    """A connector to the repository of the tests."""
    settings: dict[str, Any] = {
        "endpoint": hub.url,
        "token": hub.token,
        "outbox": Outbox(folder / "outbox"),
        "retry_policy": QUICK,
        "reports_folder": folder / "reports",
    }
    return HuggingFaceConnector(REPOSITORY, **{**settings, **options})


@contextmanager
def isolated_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub for connectors that are given its address; at the end, the token must not have gone anywhere else."""
    isolate(monkeypatch, folder / "home")
    with HubServer(folder / "server") as server:
        yield server
    assert server.leaks() == []


@contextmanager
def as_the_public_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub that this process takes for the public one, as does a process that it starts."""
    with isolated_hub(folder, monkeypatch) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + FILES_OF_THE_HUB)
        environment = {"HF_ENDPOINT": server.url, "HF_TOKEN": server.token, "HF_HUB_DISABLE_XET": "1"}
        for name, value in {**environment, "HF_HOME": str(folder / "home")}.items():
            monkeypatch.setenv(name, value)
        yield server
