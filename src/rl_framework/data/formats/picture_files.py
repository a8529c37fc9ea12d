"""Pictures as PNG files, which lose nothing, and out of PNG or JPEG files."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from rl_framework.data.formats.optional_packages import require
from rl_framework.errors import CorruptArchiveError

FORMATS = ("JPEG", "PNG")
FAST = 1


def encode_pictures(pictures: np.ndarray) -> list[bytes]:
    """A PNG file for each picture. `[n, height, width, 3]` of bytes

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    require("Writing data sets with compressed pictures", "PIL")
    return [_encode(picture) for picture in pictures]


def decode_pictures(files: Sequence[bytes], shape: tuple[int, ...] | None) -> np.ndarray:
    """Pictures out of files. `[n, *shape]`

    Args:
        files: At least one file.
        shape: Shape of a picture; None for that of the first one.

    Raises:
        CorruptArchiveError: One is no picture, or has another shape.
        MissingExtraError: Pillow is not installed.
    """
    require("Reading data sets with compressed pictures", "PIL")
    first = _decode(files[0])
    expected = first.shape if shape is None else shape
    pictures = np.empty((len(files), *expected), np.uint8)
    for number, content in enumerate(files):
        decoded = _decode(content) if number else first
        if decoded.size != pictures[number].size or decoded.dtype != np.uint8:
            raise CorruptArchiveError(
                f"Picture {number} is an array of {decoded.dtype} and shape {decoded.shape}, expected {expected}."
            )
        pictures[number] = decoded.reshape(expected)
    return pictures


def _encode(picture: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=FAST)
    return file.getvalue()


def _decode(content: bytes) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            return np.asarray(picture)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise CorruptArchiveError(f"A picture cannot be decoded: {error}.") from error
