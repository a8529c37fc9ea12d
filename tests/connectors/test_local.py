from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rl_framework.connectors.local import LocalConnector
from rl_framework.errors import ConnectorError, MissingArchiveError
from rl_framework.testing.connectors import contents, make_folder

WRITER = """
import sys
from rl_framework.connectors.local import LocalConnector
connector = LocalConnector(sys.argv[1])
step = max((step for step, _ in connector.read_values().get("a", [])), default=0)
print("ready", flush=True)
while True:
    step += 1
    connector.log_values_with_step({"a": step, "b": -step, "c" * 50: 0.5}, step)
"""


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_making_one_touches_nothing(tmp_path: Path) -> None:
    connector = LocalConnector(tmp_path / "place")
    assert connector.read_values() == {}
    assert connector.revisions() == []
    assert list(tmp_path.iterdir()) == []


def test_values_can_be_read_while_they_are_written(tmp_path: Path) -> None:
    writer, reader = LocalConnector(tmp_path), LocalConnector(tmp_path)
    with writer:
        for step in range(5):
            writer.log_value("a", 2.0 * step, step)
            assert reader.read_values() == {"a": [(done, 2.0 * done) for done in range(step + 1)]}


def test_a_value_without_a_step_stays_without(tmp_path: Path) -> None:
    with LocalConnector(tmp_path) as connector:
        connector.log_value("mean_reward", 500.0)
    assert connector.read_values() == {"mean_reward": [(None, 500.0)]}


def test_a_second_run_goes_on_where_the_first_ended(tmp_path: Path) -> None:
    for step in (1, 2):
        with LocalConnector(tmp_path) as connector:
            connector.log_value("a", 1.0, step)
    assert LocalConnector(tmp_path).read_values() == {"a": [(1, 1.0), (2, 1.0)]}


def test_it_can_be_used_after_closing(tmp_path: Path) -> None:
    connector = LocalConnector(tmp_path)
    connector.log_value("a", 1.0, 1)
    connector.close()
    connector.log_value("a", 2.0, 2)
    connector.close()
    assert connector.read_values() == {"a": [(1, 1.0), (2, 2.0)]}


def test_a_torn_last_line_is_skipped_and_writing_goes_on(tmp_path: Path) -> None:
    with LocalConnector(tmp_path) as connector:
        connector.log_value("a", 1.0, 1)
        connector.log_value("a", 2.0, 2)
    log = tmp_path / "log.jsonl"
    log.write_bytes(log.read_bytes()[:-20])
    assert LocalConnector(tmp_path).read_values() == {"a": [(1, 1.0)]}
    with LocalConnector(tmp_path) as connector:
        connector.log_value("a", 3.0, 3)
    assert LocalConnector(tmp_path).read_values() == {"a": [(1, 1.0), (3, 3.0)]}


def test_every_line_is_plain_json(tmp_path: Path) -> None:
    with LocalConnector(tmp_path) as connector:
        connector.log_value("a", float("nan"), 1)
        connector.log_parameters({"path": tmp_path, "infinite": float("inf"), "nest": {"list": (1, None, True)}})
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    records = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert records[1]["parameters"] == {"path": str(tmp_path), "infinite": "inf", "nest": {"list": [1, None, True]}}


def test_a_killed_writer_loses_nothing_and_breaks_nothing(tmp_path: Path) -> None:
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            while len(LocalConnector(tmp_path).read_values().get("a", [])) % 100 < 50:
                continue
            writer.send_signal(signal.SIGKILL)
    values = LocalConnector(tmp_path).read_values()
    steps = [step for step, _ in values["a"]]
    assert steps == list(range(1, len(steps) + 1))
    assert values["b"] == [(step, -float(step or 0)) for step in steps]


def test_parameters_come_back_the_later_ones_first(tmp_path: Path) -> None:
    with LocalConnector(tmp_path) as connector:
        connector.log_parameters({"gamma": 0.9, "policy": "MlpPolicy"})
        connector.log_parameters({"gamma": 0.99})
    assert connector.read_parameters() == {"gamma": 0.99, "policy": "MlpPolicy"}


def test_videos_and_files_are_copied_by_name_and_step(tmp_path: Path) -> None:
    video = tmp_path / "replay.mp4"
    place = tmp_path / "place"
    with LocalConnector(place) as connector:
        for step in (10, 20):
            video.write_text(f"at {step}")
            connector.log_video("replay", video, step)
        connector.log_video("replay", video)
        connector.log_artifact("curve", video)
    assert (place / "videos" / "replay-10.mp4").read_text() == "at 10"
    assert files(place) == [
        "artifacts/curve.mp4",
        "log.jsonl",
        "videos/replay-10.mp4",
        "videos/replay-20.mp4",
        "videos/replay.mp4",
    ]


def test_a_missing_video_is_refused(tmp_path: Path) -> None:
    with LocalConnector(tmp_path / "place") as connector, pytest.raises(MissingArchiveError, match=r"no\.mp4"):
        connector.log_video("replay", tmp_path / "no.mp4")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "..", ".", "a/b", "a\\b", "a:b", ".hidden", "a\0b"])
def test_no_name_leaves_the_folder(tmp_path: Path, name: str) -> None:
    source = tmp_path / "source"
    source.write_text("x")
    with LocalConnector(tmp_path / "place") as connector:
        connector.log_artifact(name, source)
    [kept] = (tmp_path / "place" / "artifacts").iterdir()
    assert kept.read_text() == "x"
    assert not kept.name.startswith(".")
    assert files(tmp_path) == sorted([f"place/artifacts/{kept.name}", "place/log.jsonl", "source"])


def test_different_names_stay_different(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("x")
    with LocalConnector(tmp_path / "place") as connector:
        for name in ("a/b", "a-b", "a%2Fb", ".a", "%2Ea"):
            connector.log_artifact(name, source)
    assert len(list((tmp_path / "place" / "artifacts").iterdir())) == 5


def test_every_upload_stays_available(tmp_path: Path) -> None:
    connector = LocalConnector(tmp_path / "place")
    for text in ("one", "two", "three"):
        connector.upload(make_folder(tmp_path / text, text))
    revisions = connector.revisions()
    assert len(revisions) == 3
    for revision, text in zip(revisions, ("one", "two", "three"), strict=True):
        assert contents(connector.download(revision=revision)) == contents(tmp_path / text)
    assert contents(connector.download(tmp_path / "copy")) == contents(tmp_path / "three")
    connector.close()


def test_an_upload_says_where_it_went(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "agent", "one")
    with LocalConnector(tmp_path / "place") as connector:
        assert contents(Path(connector.upload(folder))) == contents(folder)


def test_uploads_at_the_same_moment_all_survive(tmp_path: Path) -> None:
    folders = [make_folder(tmp_path / text, text) for text in "abcdefgh"]
    with LocalConnector(tmp_path / "place") as connector, ThreadPoolExecutor(8) as pool:
        places = list(pool.map(connector.upload, folders))
    assert [contents(Path(place)) for place in places] == [contents(folder) for folder in folders]
    assert len(connector.revisions()) == 8


def test_an_upload_that_fails_half_way_is_invisible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_folder(tmp_path / "agent", "one")
    connector = LocalConnector(tmp_path / "place")
    connector.upload(folder)
    before = files(tmp_path / "place" / "revisions")
    monkeypatch.setattr(shutil, "copytree", copy_a_little_and_fail)
    with pytest.raises(ConnectorError, match="disk is full"):
        connector.upload(folder)
    assert files(tmp_path / "place" / "revisions") == before
    assert len(connector.revisions()) == 1
    connector.close()


def copy_a_little_and_fail(source: Path, target: Path, **options: Any) -> None:
    shutil.copy(source / "manifest.json", target)
    raise OSError(28, "the disk is full")


def test_what_is_no_saved_agent_is_not_replaced_by_a_download(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("years of work")
    with LocalConnector(tmp_path / "place") as connector:
        connector.upload(make_folder(tmp_path / "agent", "one"))
        with pytest.raises(ValueError, match="not a saved agent"):
            connector.download(precious)
    assert contents(precious) == {"thesis.tex": b"years of work"}


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "place").write_text("a file is in the way")
    connector = LocalConnector(tmp_path / "place")
    with pytest.raises(ConnectorError, match="place"):
        connector.log_value("a", 1.0, 1)
    with pytest.raises(ConnectorError, match="place"):
        connector.upload(make_folder(tmp_path / "agent", "one"))
