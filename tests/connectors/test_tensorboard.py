from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rl_framework.connectors.tensorboard import TensorBoardTracker
from rl_framework.errors import MissingArchiveError, MissingExtraError
from tests.connectors.event_files import read_scalars, read_texts


def test_making_one_touches_nothing(tmp_path: Path) -> None:
    TensorBoardTracker(tmp_path / "logs").close()
    assert list(tmp_path.iterdir()) == []


def test_texts_and_parameters_are_readable(tmp_path: Path) -> None:
    with TensorBoardTracker(tmp_path) as tracker:
        tracker.log_text("notes", "all well", 3)
        tracker.log_parameters({"gamma": 0.99, "net": {"layers": [64, 64]}})
    texts = read_texts(tmp_path)
    assert texts["notes"] == "all well"
    assert "| gamma | 0.99 |" in texts["parameters"]
    assert '| net | {"layers": [64, 64]} |' in texts["parameters"]


def test_where_a_video_is_can_be_read(tmp_path: Path) -> None:
    video = tmp_path / "replay.mp4"
    video.touch()
    with TensorBoardTracker(tmp_path) as tracker:
        tracker.log_video("replay", video, 1)
    assert str(video) in read_texts(tmp_path)["replay"]


def test_a_missing_video_is_refused(tmp_path: Path) -> None:
    with TensorBoardTracker(tmp_path) as tracker, pytest.raises(MissingArchiveError):
        tracker.log_video("replay", tmp_path / "no.mp4")


def test_flushed_values_can_be_read_before_the_end(tmp_path: Path) -> None:
    with TensorBoardTracker(tmp_path) as tracker:
        tracker.log_value("a", 1.0, 1)
        tracker.flush()
        assert read_scalars(tmp_path) == {"a": [(1, 1.0)]}


def test_without_tensorboard_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"rl_framework\[tensorboard\]"):
        TensorBoardTracker(tmp_path).log_value("a", 1.0, 1)
