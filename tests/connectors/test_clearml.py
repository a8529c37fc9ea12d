from __future__ import annotations

import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import TypeAlias

import pytest

from rl_framework.connectors.clearml import ClearMLConnector
from rl_framework.connectors.retries import RetryPolicy
from rl_framework.errors import ConnectorError, MissingArchiveError, MissingExtraError, UnknownOptionError
from rl_framework.testing.clearml_server import LoopbackClearML
from rl_framework.testing.connectors import History, StoreContract, TrackerContract, contents, make_folder
from rl_framework.testing.loopback_faults import Fault, NoFaults, RandomFaults, ScriptedFaults, SteadyFaults
from tests.connectors.clearml_service import isolate, make_connector, served, server_environment, wait_until

CaptureFixture: TypeAlias = pytest.CaptureFixture[str]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LoopbackClearML]:
    with served(monkeypatch, tmp_path / "service") as running:
        yield running
        assert running.unknown_calls == []


class TestClearMLConnector(StoreContract, TrackerContract):
    @pytest.fixture(autouse=True)
    def _service(self, server: LoopbackClearML) -> None:
        self.server = server

    def open(self, folder: Path) -> ClearMLConnector:
        return make_connector(folder)

    def logged_values(self, tracker: ClearMLConnector) -> History:
        task = tracker.task_id
        history = self.server.scalars(task) if task else {}
        return {_plain_name(name): points for name, points in history.items()}

    def kept(self, values: History) -> History:
        return _finite(values)


def _plain_name(name: str) -> str:
    title, _, series = name.partition("/")
    return title if title == series else name


def _finite(values: History) -> History:
    kept = {name: [point for point in points if abs(point[1]) < float("inf")] for name, points in values.items()}
    return {name: points for name, points in kept.items() if points}


def test_everything_arrives(server: LoopbackClearML, tmp_path: Path) -> None:
    video = tmp_path / "replay.mp4"
    video.write_bytes(b"frames")
    table = tmp_path / "table.csv"
    table.write_text("a,b")
    with make_connector(tmp_path) as connector:
        connector.log_value("train/loss", float("nan"), 7)
        connector.log_value("evaluation/mean", 4.0)
        connector.log_text("notes", "all\nwell", 5)
        connector.log_parameters({"gamma": 0.99, "net": {"layers": [64, 64]}, "class": PurePath("x")})
        connector.log_video("replay/best", video, 5)
        connector.log_artifact("table", table)
        video.unlink()
        table.unlink()
    task = server.records.tasks[str(connector.task_id)]
    assert (task["name"], task["status"], task["tags"]) == ("ppo", "completed", ["rl_framework"])
    parameters = {name: item["value"] for name, item in task["hyperparams"]["parameters"].items()}
    assert parameters == {"gamma": "0.99", "net/layers": "[64, 64]", "class": "x"}
    assert server.scalars(task["id"]) == {"Summary/evaluation/mean": [(None, 4.0)]}
    assert "notes (step 5):\nall\nwell" in server.console(task["id"])
    assert "train/loss = nan at step 7" in server.console(task["id"])
    (sample,) = server.debug_samples(task["id"])
    assert (sample["metric"], sample["variant"], sample["iter"], sample["content"]) == ("replay", "best", 5, b"frames")
    (artifact,) = task["execution"]["artifacts"]
    assert (artifact["key"], server.content(artifact["uri"])) == ("table", b"a,b")


def test_an_upload_is_a_model_of_the_task_that_is_tracked(server: LoopbackClearML, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "agent", "one")
    with make_connector(tmp_path) as connector:
        connector.log_value("a", 1.0, 1)
        place = connector.upload(folder, message="the best so far")
        checkpoint = connector.push_checkpoint(folder, 2000)
    (model,) = server.records.finished_models()
    assert place == f"clearml://{model['id']}"
    assert (model["task"], model["name"]) == (connector.task_id, "ppo")
    assert "the best so far" in model["comment"]
    assert len(server.records.tasks) == 1
    task = server.records.tasks[model["task"]]
    assert task["models"]["input"] == []
    assert [item["key"] for item in task["execution"]["artifacts"]] == ["checkpoint-2000"]
    with make_connector(tmp_path, None) as reader:
        for revision in (model["id"], model["task"], checkpoint.removeprefix("clearml://")):
            assert contents(reader.download(tmp_path / "copy", revision=revision)) == contents(folder)


def test_a_checkpoint_travels_while_numbers_are_reported(server: LoopbackClearML, tmp_path: Path) -> None:
    server.faults = SteadyFaults(others=Fault(pause=0.1))
    folder = make_folder(tmp_path / "agent", "one")
    with make_connector(tmp_path) as connector:
        begun = time.perf_counter()
        place = connector.push_checkpoint(folder, 500, wait=False)
        for step in range(100):
            connector.log_value("a", 1.0, step)
        assert time.perf_counter() - begun < 2.0
    assert place.startswith("outbox:")
    assert connector.outbox.entries() == []
    (task,) = server.records.tasks.values()
    assert [item["key"] for item in task["execution"]["artifacts"]] == ["checkpoint-500"]
    assert len(server.scalars(task["id"])["a/a"]) == 100
    assert connector.uri == f"clearml://{task['id']}"


def test_this_process_is_left_as_it_is(server: LoopbackClearML, tmp_path: Path, capfd: CaptureFixture) -> None:
    before = (sys.excepthook, sys.exit, os.fork, [signal.getsignal(one) for one in SIGNALS], dict(os.environ))
    with make_connector(tmp_path) as connector:
        connector.log_value("a", 1.0, 1)
        connector.upload(make_folder(tmp_path / "agent", "one"))
    assert before == (sys.excepthook, sys.exit, os.fork, [signal.getsignal(one) for one in SIGNALS], dict(os.environ))
    assert "clearml" not in sys.modules
    assert capfd.readouterr() == ("", "")


def test_several_connectors_work_side_by_side(server: LoopbackClearML, tmp_path: Path) -> None:
    with make_connector(tmp_path, "one") as one, make_connector(tmp_path, "two") as two:
        one.log_value("a", 1.0, 1)
        two.log_value("a", 2.0, 1)
    assert one.task_id != two.task_id
    assert server.scalars(str(one.task_id)) == {"a/a": [(1, 1.0)]}
    assert server.scalars(str(two.task_id)) == {"a/a": [(1, 2.0)]}


def test_a_lost_answer_does_not_make_two_models(server: LoopbackClearML, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "agent", "one")
    server.faults = SteadyFaults({"models.edit": Fault(drop="after"), "tasks.completed": Fault(drop="after")})
    with make_connector(tmp_path) as connector:
        connector.retry_policy = RetryPolicy(attempts=1)
        place = connector.upload(folder)
        assert place.startswith("outbox:")
        server.faults = NoFaults()
        (delivery,) = connector.outbox.send(lambda entry: make_connector(tmp_path))
    (model,) = server.records.finished_models()
    assert delivery.location == f"clearml://{model['id']}"
    assert connector.outbox.entries() == []


@pytest.mark.parametrize("call", ["projects.create", "models.create"])
def test_what_a_repeated_request_leaves_does_no_harm(server: LoopbackClearML, tmp_path: Path, call: str) -> None:
    server.faults = ScriptedFaults({call: [Fault(drop="after")]})
    with make_connector(tmp_path) as connector:
        assert connector.upload(make_folder(tmp_path / "agent", "one")).startswith("clearml://")
    lost = [request.step for request in server.seen if request.fault]
    assert lost == [call]
    assert len(server.records.projects) == len(server.records.finished_models()) == 1


def test_pushes_arrive_once_and_in_order_through_a_failing_service(server: LoopbackClearML, tmp_path: Path) -> None:
    folders = [make_folder(tmp_path / f"agent-{number}", str(number)) for number in range(4)]
    server.faults = RandomFaults(0.3, seed=1)
    with make_connector(tmp_path) as connector:
        for folder in folders:
            connector.upload(folder)
    server.faults = NoFaults()
    assert all(delivery.error is None for delivery in connector.outbox.send())
    models = sorted(server.records.finished_models(), key=lambda model: str(model["created"]))
    assert len(models) == len(folders)
    with make_connector(tmp_path) as reader:
        for model, folder in zip(models, folders, strict=True):
            assert contents(reader.download(tmp_path / model["id"], revision=model["id"])) == contents(folder)


def test_a_refused_key_is_told_at_once_and_nothing_waits(
    server: LoopbackClearML, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("CLEARML_API_SECRET_KEY", "a-wrong-canary")
    with make_connector(tmp_path) as connector:
        with pytest.raises(ConnectorError, match="credentials"):
            connector.upload(make_folder(tmp_path / "agent", "one"))
        connector.log_value("a", 1.0, 1)
        connector.log_value("a", 2.0, 2)
    assert connector.outbox.entries() == []
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert sum("did not take a report" in message for message in told) == 1
    assert "a-wrong-canary" not in caplog.text


def test_secrets_are_in_no_log_and_no_file(
    server: LoopbackClearML, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with make_connector(tmp_path) as connector:
        server.faults = RandomFaults(0.3, seed=2)
        connector.log_value("a", 1.0, 1)
        connector.upload(make_folder(tmp_path / "agent", "one"))
        server.faults = NoFaults()
    texts = [caplog.text, repr(connector), *(part.decode(errors="replace") for part in contents(tmp_path).values())]
    assert not any(server.secret_key in text or re.search(r"eyJ[\w-]+\.[\w-]+\.", text) for text in texts)


def test_a_silent_service_costs_a_training_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    isolate(monkeypatch, tmp_path)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        for name, value in server_environment(silent.getsockname()[1]).items():
            monkeypatch.setenv(name, value)
        with make_connector(tmp_path) as connector:
            begun = time.perf_counter()
            for step in range(1000):
                connector.log_value("a", 1.0, step)
            connector.flush()
            assert time.perf_counter() - begun < 1.0
            connector.retry_policy = RetryPolicy(attempts=1)
            assert connector.upload(make_folder(tmp_path / "agent", "one")).startswith("outbox:")
    assert "cannot be reached. The run is recorded in" in caplog.text
    assert connector.session is not None
    with served(monkeypatch, tmp_path) as server:
        with make_connector(tmp_path) as later:
            task = later.import_session(connector.session)
        assert len(server.scalars(task)["a/a"]) == 1000
        assert [delivery.error for delivery in connector.outbox.send()] == [None]
        assert len(server.records.finished_models()) == 1


def test_a_killed_run_is_closed_and_keeps_its_numbers(server: LoopbackClearML, tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from tests.connectors.clearml_service import make_connector\n"
        "connector = make_connector(Path(sys.argv[1]))\n"
        "connector.log_value('a', 1.0, 1)\n"
        "connector._tracking.request('flush', deadline=60)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, timeout=100)
    (task,) = server.records.tasks.values()
    wait_until(lambda: task["status"] == "completed")
    assert server.scalars(task["id"]) == {"a/a": [(1, 1.0)]}


def test_settings_make_the_same_connector_again(tmp_path: Path) -> None:
    connector = make_connector(tmp_path, offline=False)
    again = ClearMLConnector.from_settings(connector.settings())
    assert (again.settings(), again.destination) == (connector.settings(), connector.destination)
    with pytest.raises(UnknownOptionError, match="projekt"):
        ClearMLConnector.from_settings({"projekt": "rl"})


def test_without_clearml_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "clearml", None)
    with pytest.raises(MissingExtraError, match=r"rl_framework\[clearml\]"):
        make_connector(tmp_path).log_value("a", 1.0, 1)


def test_without_keys_a_server_cannot_be_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(monkeypatch, tmp_path)
    with make_connector(tmp_path, offline=False) as connector, pytest.raises(ConnectorError, match="clearml-init"):
        connector.upload(make_folder(tmp_path / "agent", "one"))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with make_connector(tmp_path) as connector, pytest.raises(MissingArchiveError, match=r"no\.mp4"):
        connector.log_video("replay", tmp_path / "no.mp4")
