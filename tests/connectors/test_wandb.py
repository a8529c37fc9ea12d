from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rl_framework.connectors.wandb import WandbTracker
from rl_framework.errors import MissingArchiveError, MissingExtraError
from rl_framework.testing.connectors import History, TrackerContract, contents

READ_RUN = """
import json, struct, sys
from pathlib import Path
from wandb.proto.wandb_internal_pb2 import Record

def records(data, block=32768, first=7):
    # LevelDB's log format: blocks of 32 KiB with records of checksum, length and kind, whole (1) or in parts (2, 3, 4).
    place, whole = first, b""
    while place < len(data):
        if block - place % block < 7:
            place += block - place % block
            continue
        _, length, kind = struct.unpack("<IHB", data[place:place + 7])
        whole += data[place + 7:place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield whole
            whole = b""

found = []
for data in records(Path(sys.argv[1]).read_bytes()):
    record = Record()
    record.ParseFromString(data)
    for kind, items in (("history", record.history.item), ("summary", record.summary.update),
                        ("config", record.run.config.update), ("config", record.config.update)):
        found.append([kind, {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}])
print(json.dumps(found))
"""


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


def read_run(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    files = list(folder.rglob("*.wandb"))
    if not files:
        return []
    done = subprocess.run([sys.executable, "-c", READ_RUN, str(*files)], capture_output=True, check=True)
    return [(kind, items) for kind, items in json.loads(done.stdout)]


class TestWandbTracker(TrackerContract):
    def open(self, folder: Path) -> WandbTracker:
        return WandbTracker("ppo", folder=folder)

    def logged_values(self, tracker: WandbTracker) -> History:
        history: History = {}
        for kind, items in read_run(tracker.folder):
            points = items if kind == "history" else {}
            for name, value in points.items():
                if not name.startswith("_") and name != "timesteps":
                    history.setdefault(name, []).append((points["timesteps"], float(value)))
        return history


def test_without_a_key_a_run_is_recorded_only(tmp_path: Path) -> None:
    video = tmp_path / "replay.mp4"
    video.write_bytes(b"frames")
    with WandbTracker("ppo", "first", folder=tmp_path / "runs") as tracker:
        tracker.log_value("evaluation/mean", 4.0)
        tracker.log_parameters({"gamma": 0.99, "net": {"layers": [64]}})
        tracker.log_text("notes", "a < b", 5)
        tracker.log_video("replay", video, 5)
        tracker.log_artifact("the replay", video)
        video.unlink()
    records = read_run(tmp_path / "runs")
    assert {"evaluation/mean": 4.0} in [
        {name: value for name, value in items.items() if name == "evaluation/mean"} for kind, items in records
    ]
    assert any(items.get("gamma") == 0.99 for kind, items in records if kind == "config")
    assert any("notes" in str(items) and items["timesteps"] == 5 for kind, items in records if kind == "history")
    kept = [content for name, content in contents(tmp_path / "runs").items() if name.endswith(".mp4")]
    assert kept == [b"frames"]
    assert "wandb" not in sys.modules


def test_the_key_is_in_no_log_and_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    key = "0123456789abcdef" * 2 + "01234567"
    monkeypatch.setenv("WANDB_API_KEY", key)
    with WandbTracker("ppo", offline=True, folder=tmp_path / "runs") as tracker:
        tracker.log_value("a", 1.0, 1)
    texts = [caplog.text, *(content.decode(errors="replace") for content in contents(tmp_path / "runs").values())]
    assert not any(key in text for text in texts)


def test_without_wandb_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtraError, match=r"rl_framework\[wandb\]"):
        WandbTracker("ppo", folder=tmp_path).log_value("a", 1.0, 1)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with WandbTracker("ppo", folder=tmp_path) as tracker, pytest.raises(MissingArchiveError, match=r"no\.mp4"):
        tracker.log_video("replay", tmp_path / "no.mp4")
