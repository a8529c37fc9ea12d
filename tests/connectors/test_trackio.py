from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from rl_framework.connectors.trackio import TrackioTracker
from rl_framework.errors import MissingArchiveError, MissingExtraError
from rl_framework.testing.connectors import History, TrackerContract, contents


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def read_run(folder: Path | None) -> list[tuple[int, dict[str, object]]]:
    assert folder is not None
    if not folder.exists():
        return []
    with closing(sqlite3.connect(folder / "ppo.db")) as database:
        rows = database.execute("SELECT step, metrics FROM metrics ORDER BY id").fetchall()
    return [(step, json.loads(metrics)) for step, metrics in rows]


class TestTrackioTracker(TrackerContract):
    def open(self, folder: Path) -> TrackioTracker:
        return TrackioTracker("ppo", folder=folder)

    def logged_values(self, tracker: TrackioTracker) -> History:
        history: History = {}
        for step, metrics in read_run(tracker.folder):
            for name, value in metrics.items():
                history.setdefault(name, []).append((step, float(str(value))))
        return history


def test_everything_is_in_the_database(tmp_path: Path) -> None:
    video = tmp_path / "replay.mp4"
    video.write_bytes(b"frames")
    with TrackioTracker("ppo", "first", folder=tmp_path / "runs") as tracker:
        tracker.log_value("a", float("nan"), 7)
        tracker.log_text("notes", "all well", 5)
        tracker.log_parameters({"gamma": 0.99})
        tracker.log_video("replay", video, 5)
        tracker.log_artifact("the replay", video)
        video.unlink()
    rows = read_run(tmp_path / "runs")
    assert (7, {"a": "NaN"}) in rows
    assert "all well" in str([metrics["notes"] for step, metrics in rows if step == 5 and "notes" in metrics])
    assert "gamma: 0.99" in str([metrics["parameters"] for step, metrics in rows if "parameters" in metrics])
    assert list(contents(tmp_path / "runs").values()).count(b"frames") == 2
    assert "trackio" not in sys.modules


def test_without_trackio_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(MissingExtraError, match=r"rl_framework\[trackio\]"):
        TrackioTracker("ppo", folder=tmp_path).log_value("a", 1.0, 1)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with TrackioTracker("ppo", folder=tmp_path) as tracker, pytest.raises(MissingArchiveError, match=r"no\.mp4"):
        tracker.log_video("replay", tmp_path / "no.mp4")
