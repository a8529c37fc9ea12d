"""Numbers out of ML-Agents' observation messages: vectors, buffers and pictures, as they lie on the wire and in files.

Pictures arrive as floats in [0, 1] or as PNG files behind each other, three channels in each; axes are height, width,
channels up to Unity's package 2.x and channels, height, width from 3.x on, and the announced version is the same.
Source: `observation.proto` of mlagents-envs, https://www.w3.org/TR/png/#5DataRep
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rl_framework.core.unity_spaces import UnitySensor
from rl_framework.errors import InvalidInputError

Float32Array = npt.NDArray[np.float32]
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class ObservationMessage(Protocol):
    """The part of an `ObservationProto` that is read here."""

    shape: Sequence[int]
    dimension_properties: Sequence[int]
    compression_type: int
    compressed_data: bytes
    compressed_channel_mapping: Sequence[int]
    float_data: Any


def stacked_observations(messages: Sequence[ObservationMessage], shape: Sequence[int]) -> Float32Array:
    """The observations of one sensor for several agents.

    Args:
        messages: One for each of n agents.
        shape: What the sensor announced; for pictures either layout, which is kept.

    Returns:
        `[n, *shape]`, pictures in [0, 1].

    Raises:
        InvalidInputError: A message does not have the announced shape, or its picture cannot be read.
    """
    if messages and messages[0].compression_type:
        return np.stack([_picture(message, tuple(shape)) for message in messages])
    size = math.prod(shape)
    payload = b"".join([_float_bytes(message.float_data, size) for message in messages])
    return np.frombuffer(payload, dtype="<f4").reshape(len(messages), *shape).astype(np.float32)


def _float_bytes(data: Any, size: int) -> bytes:
    """The numbers of a `FloatData` as little-endian float32, taken from its serialized form in one piece."""
    if len(data.data) != size:
        raise InvalidInputError(f"expected {size} numbers, got {len(data.data)}")
    packed: bytes = data.SerializeToString()  # The field's number, its length, and the numbers in one piece.
    return packed[len(packed) - 4 * size :]


def _picture(message: ObservationMessage, shape: tuple[int, ...]) -> Float32Array:
    if tuple(message.shape) != shape:
        raise InvalidInputError(f"expected a picture of shape {shape}, got {tuple(message.shape)}")
    parts = [_decoded(png) for png in _png_files(message.compressed_data)]
    if len({part.shape[:2] for part in parts}) != 1:
        raise InvalidInputError(f"expected PNG pictures of one size, got {[part.shape[:2] for part in parts]}")
    channels = np.concatenate(parts, axis=2)
    first = _channels_first(message, shape, channels.shape[:2])
    picture = _mapped(channels, list(message.compressed_channel_mapping), shape[0 if first else 2])
    picture = picture.transpose(2, 0, 1) if first else picture
    if picture.shape != shape:
        raise InvalidInputError(f"expected a picture of shape {shape}, got a PNG of shape {picture.shape}")
    return picture


def _channels_first(message: ObservationMessage, shape: tuple[int, ...], size: tuple[int, ...]) -> bool:
    """Whether a picture of this height and width is announced as channels, height, width."""
    if (shape[1:] == size) == (shape[:2] == size):
        return not UnitySensor.of("", shape, message.dimension_properties).channels_last
    return shape[1:] == size


def _mapped(channels: Float32Array, mapping: list[int], count: int) -> Float32Array:
    """The observation's channels: means of the PNG channels that the mapping gives to each; -1 is given to none."""
    if not mapping:
        return channels[..., :3].mean(axis=2, keepdims=True) if count == 1 else channels[..., :count]
    if len(mapping) != channels.shape[2] or set(mapping) - {-1} != set(range(count)):
        raise InvalidInputError(
            f"expected a channel mapping of {channels.shape[2]} numbers onto {count} channels, got {mapping}"
        )
    kept = np.asarray(mapping)
    return np.stack([channels[..., kept == channel].mean(axis=2) for channel in range(count)], axis=2)


def _decoded(png: bytes) -> Float32Array:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            pixels: Float32Array = np.array(image.convert("RGB"), dtype=np.float32)
    except (OSError, SyntaxError, ValueError) as error:
        raise InvalidInputError(f"a PNG picture cannot be read: {error}") from error
    pixels /= 255
    return pixels


def _png_files(data: bytes) -> Iterator[bytes]:
    """The files that lie behind each other, cut where the chunk `IEND` ends each."""
    start = 0
    while start < len(data) or start == 0:
        if not data.startswith(PNG_SIGNATURE, start):
            raise InvalidInputError(f"expected a PNG picture at byte {start} of {len(data)}, got {data[start:][:8]!r}")
        end = start + len(PNG_SIGNATURE)
        kind = b""
        while kind != b"IEND" and end < len(data):
            kind = data[end + 4 : end + 8]
            end += 12 + int.from_bytes(data[end : end + 4], "big")
        yield data[start:end]
        start = end
