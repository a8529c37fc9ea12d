"""What the cameras of the game show: the position in red, the target in green, rows in rising blue."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

Picture = npt.NDArray[np.uint8]
BACKGROUND = 30


def picture(position: float, target: float, height: int, width: int) -> Picture:
    """`[height, width, 3]`"""
    shown = np.full((height, width, 3), BACKGROUND, np.uint8)
    shown[:, :, 2] = np.linspace(0, 255, height).astype(np.uint8)[:, None]
    shown[:, column(target, width), 1] = 255
    shown[:, column(position, width), 0] = 255
    return shown


def column(position: float, width: int) -> int:
    """In which column a position from -1 to 1 is seen."""
    return min(int((position + 1.0) / 2.0 * width), width - 1)


def grey(shown: Picture) -> Picture:
    """`[height, width, 1]`"""
    mean: Picture = (shown.astype(np.uint16).sum(axis=2, keepdims=True) // 3).astype(np.uint8)
    return mean


def png(frame: Picture) -> bytes:
    """A frame as the game compresses it: grey ones with three equal channels."""
    colours = np.repeat(frame, 3, axis=2) if frame.shape[2] == 1 else frame
    file = io.BytesIO()
    Image.fromarray(colours).save(file, "PNG")
    return file.getvalue()
