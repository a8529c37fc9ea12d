"""Addresses of agents: which connector and revision they mean, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from rl_framework.connectors.addresses import is_address, open_address, open_destination
from rl_framework.connectors.clearml import ClearMLConnector
from rl_framework.connectors.huggingface import HuggingFaceConnector
from rl_framework.connectors.local import LocalConnector
from rl_framework.connectors.mlflow import MLflowConnector
from rl_framework.errors import InvalidInputError, UnknownOptionError

RUN = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("address", "kind", "revision"),
    [
        ("hf://me/agent", HuggingFaceConnector, None),
        ("hf://me/agent@v1", HuggingFaceConnector, "v1"),
        ("clearml://abc123", ClearMLConnector, "abc123"),
        ("clearml://abc123#agent-2", ClearMLConnector, "abc123#agent-2"),
        ("mlflow://agent", MLflowConnector, None),
        ("mlflow://agent@newest", MLflowConnector, "newest"),
        ("mlflow://agent/3", MLflowConnector, "3"),
        (f"mlflow://{RUN}/checkpoints/500", MLflowConnector, f"{RUN}/checkpoints/500"),
    ],
)
def test_what_an_address_means(address: str, kind: type, revision: str | None) -> None:
    connector, found = open_address(address)

    assert is_address(address)
    assert type(connector) is kind
    assert found == revision


def test_names_are_taken_from_the_address() -> None:
    hub, _ = open_address("hf://me/agent@v1")
    model, _ = open_address("mlflow://agent/3")

    assert isinstance(hub, HuggingFaceConnector)
    assert isinstance(model, MLflowConnector)
    assert hub.uri == "hf://me/agent"
    assert model.uri == "mlflow://agent@newest"


def test_destinations(tmp_path: Path) -> None:
    hub = open_destination("hf://me/agent@branch", private=True)
    task = open_destination("clearml://a/project/task")
    folder = open_destination(tmp_path / "store")

    assert isinstance(hub, HuggingFaceConnector)
    assert (hub.revision, hub.private, hub.uri) == ("branch", True, "hf://me/agent@branch")
    assert isinstance(task, ClearMLConnector)
    assert (task.project_name, task.task_name) == ("a/project", "task")
    assert isinstance(folder, LocalConnector)
    assert isinstance(open_destination("mlflow://experiment"), MLflowConnector)


@pytest.mark.parametrize("address", ["hf://", "hf:///", "hf://me/agent@", "hf://agent", "no address"])
def test_incomplete_addresses_are_refused(address: str) -> None:
    with pytest.raises(InvalidInputError):
        open_address(address)


def test_an_unknown_scheme_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UnknownOptionError, match="mlflow"):
        open_address("mlfow://agent")


@pytest.mark.parametrize("place", ["hf:/me/agent", "clearml:project/task", Path("mlflow:/experiment")], ids=str)
def test_an_address_with_too_few_slashes_is_no_folder(place: str | Path) -> None:
    with pytest.raises(InvalidInputError, match="Expected an address"):
        open_destination(place)
