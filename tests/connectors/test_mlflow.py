from __future__ import annotations

import json
import logging
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rl_framework.connectors.mlflow import MLflowConnector
from rl_framework.connectors.outbox import Outbox
from rl_framework.connectors.retries import RetryPolicy
from rl_framework.errors import (
    ConnectorError,
    CorruptArchiveError,
    InvalidInputError,
    MissingArchiveError,
    MissingExtraError,
    UnknownOptionError,
)
from rl_framework.testing.connectors import History, StoreContract, TrackerContract, contents, make_folder
from tests.connectors.mlflow_service import make_database, read_run


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Making its tables takes seconds, so that the tests copy one."""
    return make_database(tmp_path_factory.mktemp("mlflow") / "mlflow.db")


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, empty_database: Path) -> Iterator[None]:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RL_FRAMEWORK_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "place").mkdir()
    shutil.copyfile(empty_database, tmp_path / "place" / "mlflow.db")
    yield
    assert not {path.name for path in tmp_path.iterdir()} & {"mlruns", "mlflow.db", "mlartifacts"}


def make_connector(folder: Path) -> MLflowConnector:
    return MLflowConnector(
        "ppo/cartpole's",
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
        outbox=Outbox(folder / "outbox"),
        retry_policy=RetryPolicy(first_delay=0.05),
        model_name="cartpole",
    )


def place_of(connector: MLflowConnector) -> Path:
    return Path(connector.tracking_uri.removeprefix("sqlite:///")).parent


class TestMLflowConnector(StoreContract, TrackerContract):
    def open(self, folder: Path) -> MLflowConnector:
        return make_connector(folder)

    def logged_values(self, tracker: MLflowConnector) -> History:
        return read_run(place_of(tracker), tracker.run_id).values if tracker.run_id else {}

    def kept(self, values: History) -> History:
        largest = sys.float_info.max
        return {name: [(step, min(max(value, -largest), largest)) for step, value in v] for name, v in values.items()}


def test_everything_arrives(tmp_path: Path) -> None:
    video = tmp_path / "replay.mp4"
    video.write_bytes(b"frames")
    with make_connector(tmp_path / "place") as connector:
        connector.log_value("train/loss", float("nan"), 7)
        connector.log_value("evaluation/mean", 4.0)
        connector.log_text("notes", "all\nwell", 5)
        connector.log_parameters({"gamma": 0.99, "net": {"layers": [64, 64]}, "long": "x" * 7000, "odd$": True})
        connector.log_video("replay/best", video, 5)
        connector.log_artifact("table", video)
        video.unlink()
    run = read_run(tmp_path / "place", connector.run_id)
    assert run.status == "FINISHED"
    assert [step for step, value in run.values["train/loss"] if value != value] == [7]
    assert run.values["evaluation/mean"] == [(0, 4.0)]
    assert {name: run.parameters[name] for name in ("gamma", "net/layers", "odd_")} == {
        "gamma": "0.99",
        "net/layers": "[64, 64]",
        "odd_": "true",
    }
    assert run.parameters["long"] == "x" * 497 + "..."
    assert json.loads(run.files["parameters.json"])["long"] == "x" * 7000
    assert run.files["texts/notes-5.txt"] == b"all\nwell"
    assert run.files["videos/replay_best-5.mp4"] == run.files["artifacts/table.mp4"] == b"frames"


def test_a_parameter_that_changes_is_told_and_kept_in_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with make_connector(tmp_path / "place") as connector:
        connector.log_parameters({"gamma": 0.99, "steps": 1})
        connector.log_parameters({"gamma": 0.95, "more": 2})
    run = read_run(tmp_path / "place", connector.run_id)
    assert run.parameters == {"gamma": "0.99", "steps": "1", "more": "2"}
    assert json.loads(run.files["parameters.json"]) == {"gamma": 0.95, "steps": 1, "more": 2}
    assert "MLflow changes no parameter; gamma" in caplog.text


def test_an_agent_comes_back_by_version_alias_and_run(tmp_path: Path) -> None:
    one, two = make_folder(tmp_path / "one", "one"), make_folder(tmp_path / "two", "two")
    with make_connector(tmp_path / "place") as connector:
        connector.log_value("a", 1.0, 1)
        assert connector.upload(one, message="the first") == "mlflow://cartpole/1"
        checkpoint = connector.push_checkpoint(one, 500)
        assert connector.upload(two) == "mlflow://cartpole/2"
        run = str(connector.run_id)
        assert checkpoint == f"mlflow://{run}/checkpoints/500"
        revisions = {"1": one, f"{run}/checkpoints/500": one, "2": two, "newest": two, run: two}
        for number, (revision, folder) in enumerate(revisions.items()):
            assert contents(connector.download(tmp_path / f"copy{number}", revision=revision)) == contents(folder)
    stored = [path.name for path in (tmp_path / "place" / "artifacts").rglob("*")]
    assert not [name for name in stored if name.endswith((".pkl", "MLmodel"))]
    assert read_run(tmp_path / "place", connector.run_id).values == {"a": [(1, 1.0)]}


def test_a_push_that_has_arrived_is_found_and_its_alias_set(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "agent", "one")
    with make_connector(tmp_path / "place") as connector:
        connector.upload(folder)
        connector.push_checkpoint(folder, 500)
        with sqlite3.connect(tmp_path / "place" / "mlflow.db") as database:
            (push_id,) = database.execute(
                "SELECT value FROM model_version_tags WHERE key = 'rl_framework.push'"
            ).fetchone()
            (key,) = database.execute("SELECT key FROM tags WHERE key LIKE 'rl_framework.push.%'").fetchone()
            database.execute("DELETE FROM registered_model_aliases")
        assert connector.find_push(push_id) == "mlflow://cartpole/1"
        assert connector.find_push(key.rpartition(".")[2]) == f"mlflow://{connector.run_id}/checkpoints/500"
        assert connector.find_push("another") is None
        assert contents(connector.download(tmp_path / "copy")) == contents(folder)


def test_an_altered_agent_is_refused(tmp_path: Path) -> None:
    with make_connector(tmp_path / "place") as connector:
        connector.upload(make_folder(tmp_path / "agent", "one"))
        (stored,) = (tmp_path / "place" / "artifacts").rglob("policy.safetensors")
        stored.write_bytes(b"something else")
        with pytest.raises(CorruptArchiveError, match="not what was uploaded"):
            connector.download(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_an_unknown_run_is_refused(tmp_path: Path) -> None:
    with make_connector(tmp_path / "place") as connector, pytest.raises(ConnectorError, match="no run"):
        connector.download(revision="0" * 32)


def test_a_silent_server_costs_a_training_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    connector = MLflowConnector(
        "ppo",
        tracking_uri="http://127.0.0.1:9",
        outbox=Outbox(tmp_path / "outbox"),
        retry_policy=RetryPolicy(attempts=1),
    )
    with connector:
        begun = time.perf_counter()
        for step in range(1000):
            connector.log_value("a", 1.0, step)
        connector.flush()
        assert time.perf_counter() - begun < 1.0
        assert connector.upload(make_folder(tmp_path / "agent", "one")).startswith("outbox:")
    assert len(connector.outbox.entries()) == 1
    assert "1000 reports to MLflow" in caplog.text


def test_this_process_does_not_import_mlflow(tmp_path: Path) -> None:
    with make_connector(tmp_path / "place") as connector:
        connector.log_value("a", 1.0, 1)
    assert "mlflow" not in sys.modules


def test_settings_make_the_same_connector_again(tmp_path: Path) -> None:
    connector = make_connector(tmp_path)
    again = MLflowConnector.from_settings(connector.settings())
    assert (again.settings(), again.destination) == (connector.settings(), connector.destination)
    with pytest.raises(UnknownOptionError, match="experiment_nam"):
        MLflowConnector.from_settings({"experiment_nam": "ppo"})


def test_passwords_stay_out_of_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InvalidInputError, match="without a password"):
        MLflowConnector("ppo", tracking_uri="http://me:canary@127.0.0.1:9")
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:canary@127.0.0.1:9")
    with MLflowConnector("ppo", outbox=Outbox(tmp_path / "outbox"), retry_policy=RetryPolicy(attempts=1)) as connector:
        connector.log_value("a", 1.0, 1)
        connector.upload(make_folder(tmp_path / "agent", "one"))
    kept = [part.decode(errors="replace") for part in contents(tmp_path / "outbox").values()]
    assert not any("canary" in text for text in (caplog.text, repr(connector), str(connector.settings()), *kept))


def test_without_mlflow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingExtraError, match=r"rl_framework\[mlflow\]"):
        make_connector(tmp_path).log_value("a", 1.0, 1)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with make_connector(tmp_path) as connector, pytest.raises(MissingArchiveError, match=r"no\.mp4"):
        connector.log_video("replay", tmp_path / "no.mp4")
