"""Reads videos back with the same ffmpeg binary."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_framework.video.encoding import ffmpeg_program


@dataclass(frozen=True)
class Playback:
    """What a player sees: `frames` is `[T, height, width, 3]`."""

    codec: str
    pixel_format: str
    fps: float
    duration: float
    frames: npt.NDArray[np.uint8]


def play(path: Path) -> Playback:
    command = [ffmpeg_program(), "-hide_banner", "-nostdin", "-i", str(path), "-fps_mode", "passthrough"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    text = done.stderr.decode()
    stream = _found(r"Stream #0:0.*?: Video: (.*)", text)
    width, height = (int(part) for part in _found(r"\b([1-9]\d*x\d+)\b", stream).split("x"))
    hours, minutes, seconds = _found(r"Duration: ([\d:.]+)", text).split(":")
    return Playback(
        codec=stream.split()[0].rstrip(","),
        pixel_format=_found(r"(?:, )(\w+?)(?:\(|,)", stream),
        fps=float(_found(r"([\d.]+) fps", stream)),
        duration=3600 * int(hours) + 60 * int(minutes) + float(seconds),
        frames=np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3),
    )


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match is not None, f"{pattern} in {text}"
    return match.group(1)


def boxes(path: Path) -> list[str]:
    """The outermost boxes of an mp4, in the order of the file."""
    data, names, at = path.read_bytes(), [], 0
    while at < len(data):
        names.append(data[at + 4 : at + 8].decode())
        at += int.from_bytes(data[at : at + 4], "big")
    return names


def shades(frames: npt.NDArray[np.uint8]) -> list[float]:
    """Mean brightness of each picture's inside."""
    means: Any = frames[:, 4:-4, 4:-4].mean(axis=(1, 2, 3))
    return [float(mean) for mean in means]
