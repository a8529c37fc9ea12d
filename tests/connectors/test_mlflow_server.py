"""Against a real MLflow server on loopback. Starting it takes half a minute, so that these tests are few."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rl_framework.connectors.mlflow import MLflowConnector
from rl_framework.connectors.outbox import Outbox
from rl_framework.connectors.retries import RetryPolicy
from rl_framework.testing.connectors import contents, make_folder
from rl_framework.testing.loopback_faults import Fault, NoFaults, RandomFaults, SteadyFaults
from tests.connectors.mlflow_service import FailingWay, mlflow_server, read_run

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("mlflow server")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mlflow-server")


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[str]:
    with mlflow_server(place) as address:
        yield address


@pytest.fixture
def way(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FailingWay]:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("RL_FRAMEWORK_CACHE", str(tmp_path / "cache"))
    with FailingWay() as failing:
        failing.target = server
        yield failing


def make_connector(way: FailingWay, folder: Path, model: str) -> MLflowConnector:
    return MLflowConnector(
        "ppo",
        tracking_uri=way.url,
        model_name=model,
        outbox=Outbox(folder / "outbox"),
        retry_policy=RetryPolicy(first_delay=0.05),
    )


def test_numbers_files_and_agents_arrive_and_come_back(way: FailingWay, place: Path, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "agent", "one")
    (folder / "replay_buffer.safetensors").write_bytes(bytes(12 * 2**20))
    with make_connector(way, tmp_path, "round trip") as connector:
        connector.log_values_with_step({"train/loss": 0.5, "rollout/reward": float("nan")}, 10)
        connector.log_parameters({"gamma": 0.99, "long": "x" * 7000})
        connector.log_text("notes", "all well")
        connector.upload(folder)
    with make_connector(way, tmp_path, "round trip") as reader:
        assert contents(reader.download(tmp_path / "copy", revision="newest")) == contents(folder)
    run = read_run(place, connector.run_id)
    assert run.values["train/loss"] == [(10, 0.5)]
    assert run.parameters["gamma"] == "0.99"
    assert run.files["texts/notes.txt"] == b"all well"


def test_a_lost_answer_does_not_make_two_versions(way: FailingWay, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "agent", "one")
    way.faults = SteadyFaults(
        {"model-versions/create": Fault(drop="after"), "model-versions/search": Fault(status=503)}
    )
    with make_connector(way, tmp_path, "lost answer") as connector:
        connector.retry_policy = RetryPolicy(attempts=1)
        assert connector.upload(folder).startswith("outbox:")
        way.faults = NoFaults()
        assert [delivery.location for delivery in connector.outbox.send()] == ["mlflow://lost answer/1"]
        assert connector.find_push("another") is None
        assert contents(connector.download(tmp_path / "copy")) == contents(folder)


def test_pushes_arrive_once_and_in_order_through_a_failing_way(way: FailingWay, tmp_path: Path) -> None:
    folders = [make_folder(tmp_path / f"agent-{number}", str(number)) for number in range(4)]
    way.faults = RandomFaults(0.3, seed=3)
    with make_connector(way, tmp_path, "failing way") as connector:
        for step, folder in enumerate(folders):
            connector.log_value("a", float(step), step)
            connector.upload(folder)
        way.faults = NoFaults()
        connector.outbox.send()
    assert connector.outbox.entries() == []
    with make_connector(way, tmp_path, "failing way") as reader:
        for number, folder in enumerate(folders, start=1):
            copy = reader.download(tmp_path / f"copy-{number}", revision=str(number))
            assert contents(copy) == contents(folder)
        assert contents(reader.download(tmp_path / "newest")) == contents(folders[-1])
