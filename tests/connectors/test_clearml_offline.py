from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from rl_framework.connectors.clearml import ClearMLConnector
from rl_framework.connectors.clearml_sessions import read_session
from rl_framework.errors import ConnectorError, CorruptArchiveError, UnsafeArchiveError
from rl_framework.testing.connectors import History, StoreContract, TrackerContract, contents, make_folder
from tests.connectors.clearml_service import isolate, make_connector, served


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path / "service")


class TestOfflineClearMLConnector(StoreContract, TrackerContract):
    def open(self, folder: Path) -> ClearMLConnector:
        return make_connector(folder, offline=True)

    def logged_values(self, tracker: ClearMLConnector) -> History:
        history: History = {}
        log = tracker.session / "metrics.jsonl" if tracker.session else None
        for line in log.read_text().splitlines() if log and log.exists() else []:
            for event in json.loads(line):
                title, series = event["metric"], event["variant"]
                name = title if title == series else f"{title}/{series}"
                history.setdefault(name, []).append((event["iter"], event["value"]))
        return history

    def kept(self, values: History) -> History:
        kept = {name: [point for point in points if abs(point[1]) < float("inf")] for name, points in values.items()}
        return {name: points for name, points in kept.items() if points}


def test_without_keys_there_is_no_server(tmp_path: Path) -> None:
    with make_connector(tmp_path) as connector:
        connector.log_value("a", 1.0, 1)
        place = connector.upload(make_folder(tmp_path / "agent", "one"))
        assert connector.offline
        assert connector.session is not None
        assert place == f"clearml://{connector.session.name}#agent"
    assert connector.session.with_name(f"{connector.session.name}.zip").is_file()


def test_agents_come_back_from_the_folder_the_zip_and_by_name(tmp_path: Path) -> None:
    one, two = make_folder(tmp_path / "one", "one"), make_folder(tmp_path / "two", "two")
    with make_connector(tmp_path, offline=True) as connector:
        connector.upload(one)
        connector.push_checkpoint(one, 500)
        connector.upload(two)
    assert connector.session is not None
    packed = connector.session.with_name(f"{connector.session.name}.zip")
    moved = Path(shutil.move(packed, tmp_path / "carried.zip"))
    with make_connector(tmp_path, offline=True) as reader:
        assert contents(reader.download(tmp_path / "copy1", revision=str(moved))) == contents(two)
        shutil.move(moved, packed)
        assert contents(reader.download(tmp_path / "copy2", revision=str(connector.session))) == contents(two)
        shutil.rmtree(connector.session)
        session = connector.session.name
        assert contents(reader.download(tmp_path / "copy3", revision=f"{session}#agent")) == contents(one)
        assert contents(reader.download(tmp_path / "copy4", revision=f"{session}#checkpoint-500")) == contents(one)
        assert contents(reader.download(tmp_path / "copy5")) == contents(two)


def test_a_session_is_restored_on_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, video = make_folder(tmp_path / "agent", "one"), tmp_path / "replay.mp4"
    video.write_bytes(b"frames")
    with make_connector(tmp_path, offline=True) as connector:
        connector.log_value("rollout/reward", 1.5, 10)
        connector.log_parameters({"gamma": 0.99})
        connector.log_text("notes", "all well", 5)
        connector.log_video("replay", video, 10)
        connector.upload(folder)
    assert connector.session is not None
    with served(monkeypatch, tmp_path / "service") as server:
        with make_connector(tmp_path) as online:
            task = online.import_session(f"{connector.session}.zip")
            assert online.import_session(connector.session) == task
            assert contents(online.download(tmp_path / "newest")) == contents(folder)
            assert contents(online.download(tmp_path / "named", revision=f"{task}#agent")) == contents(folder)
        assert server.scalars(task) == {"rollout/reward": [(10, 1.5)]}
        assert "all well" in server.console(task)
        assert [sample["content"] for sample in server.debug_samples(task)] == [b"frames"]
        assert server.records.tasks[task]["hyperparams"]["parameters"]["gamma"]["value"] == "0.99"
        assert len(server.records.finished_models()) == len(server.records.tasks) == 1
        assert server.unknown_calls == []


def test_what_is_no_session_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with make_connector(tmp_path, offline=True) as connector, pytest.raises(ConnectorError, match="no session"):
        connector.import_session(tmp_path / "empty")


def test_a_session_that_reaches_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    session = _write_session(tmp_path, file="/etc/passwd")
    with pytest.raises(UnsafeArchiveError, match="outside"):
        read_session(session)
    session = _write_session(tmp_path, file="data/../../secret")
    with pytest.raises(UnsafeArchiveError, match="outside"):
        read_session(session)


def test_an_altered_agent_is_refused(tmp_path: Path) -> None:
    session = _write_session(tmp_path, file="data/agent.zip")
    (session / "data").mkdir()
    with zipfile.ZipFile(session / "data" / "agent.zip", "w") as archive:
        archive.writestr("manifest.json", "{}")
    with make_connector(tmp_path, offline=True) as connector, pytest.raises(CorruptArchiveError, match="checksum"):
        connector.download(tmp_path / "copy", revision=str(session))
    assert not (tmp_path / "copy").exists()


def _write_session(folder: Path, *, file: str) -> Path:
    session = folder / "offline-0123"
    session.mkdir(exist_ok=True)
    artifact = {"key": "agent", "uri": file, "display_data": [["push_id", "1"], ["sha256", "0" * 64], ["time", "1.0"]]}
    task = {"id": session.name, "name": "ppo", "project_name": "rl", "offline_folder": str(session)}
    (session / "task.json").write_text(json.dumps({**task, "execution": {"artifacts": [artifact]}}))
    return session
