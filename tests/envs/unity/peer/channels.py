"""Side channels: what the game reads from them, and what it reports through them."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

ENGINE = uuid.UUID("e951342c-4f7e-11ea-b238-784f4387d1f7")
PARAMETERS = uuid.UUID("534c891e-810f-11ea-a9d0-822485860400")
STATISTICS = uuid.UUID("a1d8f7b7-cec8-50f9-b78b-d3e165a78520")
OWN = uuid.UUID("0a6a2d1c-6a54-4c53-9d0f-5d4b7c2f1e90")
AVERAGE, MOST_RECENT, SUM = 0, 1, 2
ENGINE_SETTINGS = ("resolution", "quality_level", "time_scale", "target_frame_rate", "capture_frame_rate")


@dataclass(frozen=True)
class Parameter:
    """A number that the game was told by name; None for a sampler."""

    name: str
    value: float | None


def split(data: bytes) -> Iterator[tuple[uuid.UUID, bytes]]:
    """The messages in the bytes of one exchange: channel and content."""
    offset = 0
    while offset < len(data):
        channel = uuid.UUID(bytes_le=data[offset : offset + 16])
        (length,) = struct.unpack_from("<i", data, offset + 16)
        offset += 20
        yield channel, data[offset : offset + length]
        offset += length


def pack(channel: uuid.UUID, content: bytes) -> bytes:
    """One message."""
    return channel.bytes_le + struct.pack("<i", len(content)) + content


def statistic(name: str, value: float, method: int) -> bytes:
    """A number for the channel of statistics."""
    text = name.encode("ascii")
    return pack(STATISTICS, struct.pack("<i", len(text)) + text + struct.pack("<fi", value, method))


def read_parameter(content: bytes) -> Parameter:
    """What the channel of environment parameters said."""
    (length,) = struct.unpack_from("<i", content)
    name = content[4 : 4 + length].decode("ascii")
    (kind,) = struct.unpack_from("<i", content, 4 + length)
    return Parameter(name, struct.unpack_from("<f", content, 8 + length)[0] if kind == 0 else None)


def read_engine(content: bytes) -> dict[str, float | list[int]]:
    """What the channel of engine settings said, by name."""
    (kind,) = struct.unpack_from("<i", content)
    name = ENGINE_SETTINGS[kind]
    if name == "resolution":
        return {name: list(struct.unpack_from("<ii", content, 4))}
    return {name: struct.unpack_from("<f" if name == "time_scale" else "<i", content, 4)[0]}
