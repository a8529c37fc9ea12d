"""Pictures into a video file, one at a time, through the ffmpeg binary that imageio-ffmpeg ships.

The file appears under its name when it is whole; until then, and after a failure, what was there before stays.
"""

from __future__ import annotations

import math
import subprocess
import tempfile
import uuid
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from rl_framework.errors import InvalidInputError, MissingExtraError, VideoError

HIGHEST_GIF_FPS = 50  # a GIF counts in hundredths of a second, and players slow down what is faster than two of them
EVEN_SIZE = "pad=ceil(iw/2)*2:ceil(ih/2)*2"
MP4_OPTIONS = (
    *("-vf", EVEN_SIZE, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "20"),
    *("-movflags", "+faststart", "-f", "mp4"),
)
# A palette per picture: one palette for all would need all pictures in memory.
GIF_FILTER = "fps={fps},split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=new=1"


class VideoWriter:
    """Writes `.mp4` (H.264, yuv420p, even sizes by padding, playable while it loads) or `.gif`.

    Use it as a context manager: leaving it normally completes the file, leaving it with an exception drops it.

    Args:
        path: Where the video goes; its suffix says the format. Missing folders are made.
        fps: Frames per second.

    Raises:
        InvalidInputError: Another suffix, a folder, or an fps that is not a positive number.
        MissingExtraError: imageio-ffmpeg is not installed.
    """

    def __init__(self, path: Path | str, fps: float) -> None:
        self.path = check_video_path(path)
        if not (math.isfinite(fps) and fps > 0):
            raise InvalidInputError(f"Expected a positive number of frames per second, got {fps}.")
        self._fps = Fraction(fps).limit_denominator(1001)
        self._program = ffmpeg_program()
        self._part = self.path.with_name(f".{self.path.stem}.{uuid.uuid4().hex[:8]}{self.path.suffix}")
        self._size: tuple[int, int] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._complaints: IO[bytes] | None = None
        self._is_finished = False

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._complete()
        finally:
            self._clean_up()

    def write(self, picture: Any) -> None:
        """Append one picture.

        Args:
            picture: Colours from 0 to 255. `[height, width, 3]`, uint8

        Raises:
            VideoError: Not such an array, another size than the pictures before, or ffmpeg has given up.
        """
        frame = _check_picture(picture)
        size = (frame.shape[1], frame.shape[0])
        if self._is_finished:
            raise VideoError(f"{self.path} is finished; nothing can be appended.")
        if self._process is None:
            self._start(size)
        elif size != self._size:
            raise VideoError(f"Expected pictures of {self._size} pixels like the first one, got one of {size}.")
        self._send(frame)

    def _start(self, size: tuple[int, int]) -> None:
        self._size = size
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            self._command(size),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._complaints,
            start_new_session=True,  # Ctrl-C is for us; we end ffmpeg ourselves
        )

    def _command(self, size: tuple[int, int]) -> list[str]:
        rate = str(self._fps)
        frames = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", f"{size[0]}x{size[1]}", "-framerate", rate]
        gif_rate = min(self._fps, Fraction(HIGHEST_GIF_FPS))
        output = MP4_OPTIONS if _suffix(self.path) == ".mp4" else ("-vf", GIF_FILTER.format(fps=gif_rate), "-f", "gif")
        return [
            self._program,
            "-nostdin",
            "-v",
            "error",
            "-y",
            *frames,
            "-i",
            "pipe:0",
            "-an",
            *output,
            str(self._part),
        ]

    def _send(self, frame: npt.NDArray[np.uint8]) -> None:
        try:
            self._pipe().write(frame.data)
        except OSError as error:
            raise VideoError(f"ffmpeg ended early: {self._said()}") from error

    def _complete(self) -> None:
        if self._process is None:
            raise VideoError(f"There are no pictures to put into {self.path}.")
        try:
            self._pipe().close()
        except OSError as error:
            raise VideoError(f"ffmpeg ended early: {self._said()}") from error
        if self._process.wait() != 0:
            raise VideoError(f"ffmpeg could not write {self.path}: {self._said()}")
        self._part.replace(self.path)

    def _pipe(self) -> IO[bytes]:
        if self._process is None or self._process.stdin is None:
            raise VideoError("ffmpeg does not run.")
        return self._process.stdin

    def _said(self) -> str:
        """What ffmpeg complained about."""
        if self._process is None or self._complaints is None:
            return "it was not started"
        self._process.wait()
        self._complaints.seek(0)
        return self._complaints.read().decode(errors="replace").strip() or f"exit code {self._process.returncode}"

    def _clean_up(self) -> None:
        self._is_finished = True
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            _close_quietly(self._process.stdin)
            self._process = None
        if self._complaints is not None:
            self._complaints.close()
        self._part.unlink(missing_ok=True)


def check_video_path(path: Path | str) -> Path:
    """The path of a video that could be written.

    Raises:
        InvalidInputError: Its suffix is neither `.mp4` nor `.gif`, or it is a folder.
    """
    target = Path(path).expanduser().absolute()
    if _suffix(target) not in (".mp4", ".gif"):
        raise InvalidInputError(f"Expected a path that ends in .mp4 or .gif, got {str(path)!r}.")
    if target.is_dir():
        raise InvalidInputError(f"Expected the path of a file, got the folder {str(path)!r}.")
    return target


def ffmpeg_program() -> str:
    """Path of the ffmpeg binary.

    Raises:
        MissingExtraError: imageio-ffmpeg is not installed.
        VideoError: It is, but has no binary for this platform.
    """
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise MissingExtraError("Recording a video", "video") from error
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise VideoError(f"imageio-ffmpeg found no ffmpeg binary for this platform: {error}") from error


def _suffix(path: Path) -> str:
    return path.suffix.lower()


def _check_picture(picture: Any) -> npt.NDArray[np.uint8]:
    frame = np.asarray(picture)
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.size == 0 or frame.dtype != np.uint8:
        raise VideoError(f"Expected a picture [height, width, 3] of uint8, got {frame.dtype} {frame.shape}.")
    return np.ascontiguousarray(frame)


def _close_quietly(stream: IO[bytes] | None) -> None:
    """Close a pipe whose reader may be gone."""
    if stream is not None:
        try:
            stream.close()
        except OSError:
            return
