from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from rl_framework.errors import InvalidInputError, MissingExtraError, VideoError
from rl_framework.video import encoding
from rl_framework.video.encoding import VideoWriter
from tests.video.playback import boxes, play, shades


def grey(shade: int, height: int = 32, width: int = 48) -> Any:
    return np.full((height, width, 3), shade, dtype=np.uint8)


def write(path: Path, pictures: Any, fps: float = 10.0) -> Path:
    with VideoWriter(path, fps) as video:
        for picture in pictures:
            video.write(picture)
    return video.path


def children() -> list[int]:
    return [child.pid for child in psutil.Process().children(recursive=True)]


def test_an_mp4_is_what_every_browser_plays(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", [grey(20 * step) for step in range(11)])
    video = play(path)
    assert (video.codec, video.pixel_format, video.fps) == ("h264", "yuv420p", 10.0)
    assert video.frames.shape == (11, 32, 48, 3)
    assert video.duration == pytest.approx(1.1)
    assert shades(video.frames) == pytest.approx([20 * step for step in range(11)], abs=4)


def test_an_mp4_can_be_played_while_it_loads(tmp_path: Path) -> None:
    order = boxes(write(tmp_path / "a.mp4", [grey(0)] * 5))
    assert order.index("moov") < order.index("mdat")


def test_odd_sizes_are_padded_and_not_stretched(tmp_path: Path) -> None:
    picture = np.zeros((33, 47, 3), np.uint8)
    picture[:, 24:] = 255
    video = play(write(tmp_path / "a.mp4", [picture] * 3))
    assert (video.pixel_format, video.frames.shape) == ("yuv420p", (3, 34, 48, 3))
    row = video.frames[1, 16, :, 0].astype(int)
    assert row[20] < 30
    assert row[27] > 225
    assert row[45] > 225
    assert row[47] < 100  # the padding


@pytest.mark.parametrize("fps", [1.0, 29.97, 60.0])
def test_the_rate_is_kept(tmp_path: Path, fps: float) -> None:
    assert play(write(tmp_path / "a.mp4", [grey(0)] * 4, fps)).fps == pytest.approx(fps, abs=0.01)


def test_one_picture_makes_a_video(tmp_path: Path) -> None:
    assert len(play(write(tmp_path / "a.mp4", [grey(100)])).frames) == 1


def test_a_gif_shows_every_picture(tmp_path: Path) -> None:
    video = play(write(tmp_path / "a.gif", [grey(20 * step) for step in range(11)]))
    assert (video.codec, video.frames.shape) == ("gif", (11, 32, 48, 3))
    assert shades(video.frames) == pytest.approx([20 * step for step in range(11)], abs=4)


def test_a_gif_is_not_faster_than_players_play(tmp_path: Path) -> None:
    video = play(write(tmp_path / "a.gif", [grey(step) for step in range(100)], fps=100.0))
    assert len(video.frames) == pytest.approx(50, abs=1)
    assert video.duration == pytest.approx(1.0, abs=0.05)


def test_missing_folders_are_made_and_the_suffix_may_be_upper_case(tmp_path: Path) -> None:
    path = write(tmp_path / "a folder" / "b;c" / "-x.MP4", [grey(0)])
    assert play(path).codec == "h264"
    assert [child.name for child in path.parent.iterdir()] == ["-x.MP4"]


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"\.mp4 or \.gif, got .*a\.avi"):
        VideoWriter(tmp_path / "a.avi", 10)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").mkdir()
    with pytest.raises(InvalidInputError, match="folder"):
        VideoWriter(tmp_path / "a.mp4", 10)


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_rate_is_refused(tmp_path: Path, fps: float) -> None:
    with pytest.raises(InvalidInputError, match="frames per second"):
        VideoWriter(tmp_path / "a.mp4", fps)


@pytest.mark.parametrize(
    "picture",
    [None, "picture", np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), grey(0, 0, 4)],
)
def test_what_is_no_picture_is_refused(tmp_path: Path, picture: Any) -> None:
    with pytest.raises(VideoError, match="Expected a picture"):
        write(tmp_path / "a.mp4", [grey(0), picture])
    assert list(tmp_path.iterdir()) == []


def test_a_picture_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"\(48, 32\).*\(50, 32\)"):
        write(tmp_path / "a.mp4", [grey(0), grey(0, 32, 50)])


def test_a_video_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no pictures"):
        write(tmp_path / "a.mp4", [])


def test_a_failure_keeps_the_old_video_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", [grey(0)])
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError):
        write(path, (grey(1 // (10 - step)) for step in range(20)))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    assert children() == []


def test_success_replaces_the_old_video_and_leaves_no_process(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", [grey(0)])
    write(path, [grey(0)] * 7)
    assert len(play(path).frames) == 7
    assert list(tmp_path.iterdir()) == [path]
    assert children() == []


def test_the_old_video_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", [grey(0)])
    before = path.read_bytes()
    with VideoWriter(path, 10) as video:
        for _ in range(5):
            video.write(grey(9))
        assert path.read_bytes() == before
    assert path.read_bytes() != before


def test_ffmpeg_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "MP4_OPTIONS", ("-c:v", "no_such_codec", "-f", "mp4"))
    with pytest.raises(VideoError, match="no_such_codec"):
        write(tmp_path / "a.mp4", [grey(0, 480, 640)] * 200)
    assert list(tmp_path.iterdir()) == []
    assert children() == []


def test_a_finished_video_takes_no_more_pictures(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 10) as video:
        video.write(grey(0))
    with pytest.raises(VideoError, match="finished"):
        video.write(grey(0))


def test_memory_does_not_grow_with_the_video(tmp_path: Path) -> None:
    process = psutil.Process()
    with VideoWriter(tmp_path / "a.mp4", 60) as video:
        video.write(grey(0, 480, 640))
        before = process.memory_info().rss
        for step in range(200):
            video.write(grey(step, 480, 640))
        grown = process.memory_info().rss - before
    assert grown < 20 * 2**20  # all pictures together are 176 MiB


def test_without_imageio_ffmpeg_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(MissingExtraError, match=r"rl_framework\[video\]"):
        VideoWriter(tmp_path / "a.mp4", 10)


def test_no_ffmpeg_of_the_system_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert len(play(write(tmp_path / "a.mp4", [grey(0)])).frames) == 1
