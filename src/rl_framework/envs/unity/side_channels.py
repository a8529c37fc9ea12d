"""Messages beside the agents' own: engine settings, parameters, what games report, and users' own."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rl_framework.envs.unity.launch import UnityLaunch
from rl_framework.envs.unity.package import (
    EngineConfigurationChannel,
    EnvironmentParametersChannel,
    IncomingMessage,
    SideChannel,
    StatsAggregationMethod,
    StatsSideChannel,
)
from rl_framework.errors import InvalidInputError

HEADER_BYTES = 20


@dataclass(slots=True)
class Statistic:
    """One number that a game reports again and again, aggregated as the game says.

    Attributes:
        method: How: mean, latest or sum; of a histogram the mean is kept.
        count: Values so far.
        total: Their sum.
        latest: The last one.
    """

    method: StatsAggregationMethod
    count: int = 0
    total: float = 0.0
    latest: float = 0.0

    def add(self, value: float) -> None:
        """Take in one value."""
        self.count += 1
        self.total += value
        self.latest = value

    @property
    def value(self) -> float:
        """The aggregate of the values so far."""
        if self.method is StatsAggregationMethod.MOST_RECENT:
            return self.latest
        return self.total if self.method is StatsAggregationMethod.SUM else self.total / self.count


class StatisticsChannel(StatsSideChannel):  # type: ignore[misc]  # the package has no types
    """Receives a game's statistics in bounded memory, however many there are between two reports.

    Args:
        listener: A channel of the user's for the same messages, which hears them, too.
    """

    def __init__(self, listener: SideChannel | None = None) -> None:
        super().__init__()
        self._listener = listener
        self._statistics: dict[str, Statistic] = {}

    def on_message_received(self, msg: IncomingMessage) -> None:
        """Take in one number."""
        if self._listener is not None:
            self._listener.on_message_received(IncomingMessage(msg.buffer))
        name, value = msg.read_string(), msg.read_float32()
        method = StatsAggregationMethod(msg.read_int32())
        self._statistics.setdefault(name, Statistic(method)).add(value)

    def drain(self) -> dict[str, float]:
        """The aggregates since the last call, by name."""
        found = {name: one.value for name, one in self._statistics.items()}
        self._statistics = {}
        return found


@dataclass(frozen=True)
class Channels:
    """The side channels of one player: those that we need and those of the user.

    Attributes:
        engine: Tells the engine how to run.
        parameters: Tells the game its parameters.
        statistics: Hears what the game reports.
        others: Whatever else the user gave.
    """

    engine: EngineConfigurationChannel
    parameters: EnvironmentParametersChannel
    statistics: StatisticsChannel
    others: tuple[SideChannel, ...]

    @classmethod
    def of(cls, launch: UnityLaunch, given: Sequence[SideChannel]) -> Channels:
        """Join ours with the user's, whose list stays as it is, and queue what the launch says.

        Raises:
            InvalidInputError: Two have the same id, or one is no side channel.
        """
        theirs = _by_id(given)
        engine = _taken(theirs, EngineConfigurationChannel())
        parameters = _taken(theirs, EnvironmentParametersChannel())
        statistics = StatisticsChannel()
        listener = theirs.pop(statistics.channel_id, None)
        if listener is not None:
            statistics = StatisticsChannel(listener)
        channels = cls(engine, parameters, statistics, tuple(theirs.values()))
        channels.announce(launch)
        return channels

    def announce(self, launch: UnityLaunch) -> None:
        """Queue engine settings and parameters; they go out with the next message."""
        self.engine.set_configuration_parameters(
            width=launch.width,
            height=launch.height,
            quality_level=launch.quality_level,
            time_scale=launch.time_scale,
            target_frame_rate=launch.target_frame_rate,
            capture_frame_rate=launch.capture_frame_rate,
        )
        for name, value in launch.parameters.items():
            self.parameters.set_float_parameter(name, float(value))

    def outgoing(self) -> bytes:
        """What is queued in all of them, packed for the player; the queues are empty then."""
        block = bytearray()
        for channel in self._all():
            for message in channel.message_queue:
                block += channel.channel_id.bytes_le + struct.pack("<i", len(message)) + message
            channel.message_queue = []
        return bytes(block)

    def receive(self, block: bytes) -> None:
        """Hand on what came with one message of the player; what is for a channel that nobody has is dropped.

        Raises:
            InvalidInputError: It is cut off.
        """
        channels = {channel.channel_id: channel for channel in self._all()} if block else {}
        for channel_id, payload in _messages(block):
            if channel_id in channels:
                channels[channel_id].on_message_received(IncomingMessage(payload))

    def _all(self) -> tuple[SideChannel, ...]:
        return (self.engine, self.parameters, self.statistics, *self.others)


def _by_id(channels: Sequence[SideChannel]) -> dict[uuid.UUID, SideChannel]:
    found: dict[uuid.UUID, SideChannel] = {}
    for channel in channels:
        if not isinstance(channel, SideChannel):
            raise InvalidInputError(f"side_channels must hold ML-Agents side channels, got {type(channel).__name__}.")
        if channel.channel_id in found:
            raise InvalidInputError(f"Two side channels have the id {channel.channel_id}; each needs its own.")
        found[channel.channel_id] = channel
    return found


def _taken(theirs: dict[uuid.UUID, SideChannel], ours: SideChannel) -> SideChannel:
    """The user's channel of our channel's id, taken out of theirs; ours where there is none of this kind."""
    return theirs.pop(ours.channel_id) if isinstance(theirs.get(ours.channel_id), type(ours)) else ours


def _messages(block: bytes) -> Iterator[tuple[uuid.UUID, bytes]]:
    """Ids and contents of the messages packed into one block: 16 bytes of id, 4 of length, the content."""
    start = 0
    while start < len(block):
        if start + HEADER_BYTES > len(block):
            raise InvalidInputError(f"expected a side channel's message, got {len(block) - start} bytes")
        channel_id = uuid.UUID(bytes_le=bytes(block[start : start + 16]))
        (length,) = struct.unpack_from("<i", block, start + 16)
        start += HEADER_BYTES
        if length < 0 or start + length > len(block):
            raise InvalidInputError(f"side channel {channel_id}: expected {length} bytes, got {len(block) - start}")
        yield channel_id, block[start : start + length]
        start += length
