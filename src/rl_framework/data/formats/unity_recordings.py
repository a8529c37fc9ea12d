"""Reads the messages in Unity's `.demo` files; see `unity_demonstrations`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from rl_framework.compat.mlagents_protocol import prepare
from rl_framework.core.trees import Tree
from rl_framework.core.unity_observations import stacked_observations
from rl_framework.core.unity_spaces import UnityActions, UnityObservations, UnitySensor
from rl_framework.data.episode import Episode, FloatArray
from rl_framework.data.episode_source import IntArray
from rl_framework.data.formats.damage import episode_of, reading, refuse_empty
from rl_framework.data.formats.unity_demonstrations import PARAMETERS_AT, demonstration_files
from rl_framework.errors import MissingExtraError, NewerFormatError, SpaceError

prepare()
try:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # it ships no types
    from mlagents_envs.communicator_objects.agent_info_action_pair_pb2 import AgentInfoActionPairProto
    from mlagents_envs.communicator_objects.brain_parameters_pb2 import BrainParametersProto
    from mlagents_envs.communicator_objects.demonstration_meta_pb2 import DemonstrationMetaProto
    from mlagents_envs.rpc_utils import behavior_spec_from_proto
except ImportError as error:
    raise MissingExtraError("Reading Unity demonstrations", "unity") from error

NEWEST_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """Where an episode lies in a file.

    Attributes:
        file: The file.
        records: Start and end of each of its messages, in bytes; one more than it has steps.
        is_terminated: The task ended; otherwise the episode was cut.
        is_leading: Messages hold the action that led to them, not the one that followed.
    """

    file: Path
    records: tuple[tuple[int, int], ...]
    is_terminated: bool
    is_leading: bool


class UnityDemonstrationSource:
    """The episodes of a `.demo` file, or of all those in a folder.

    Args:
        path: The file or the folder.
    """

    has_rewards = True

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        recordings = [found for file in demonstration_files(self._path) if (found := open_recording(file)) is not None]
        self._spans = [span for recording in recordings for span in recording.spans]
        refuse_empty(path, len(self._spans))
        first = recordings[0]
        for other in recordings[1:]:
            _check_same(first, other)
        self._observations, self._actions = first.observations, first.actions
        self.lengths: IntArray = np.array([len(span.records) - 1 for span in self._spans], dtype=np.int64)
        self.observation_space: gym.Space[Any] | None = first.observations.space
        self.action_space: gym.Space[Any] | None = first.actions.space
        self.metadata: Mapping[str, Any] = {"source": "unity", "behavior": first.behavior}

    def read(self, index: int) -> Episode:
        """The episode of a number."""
        span = self._spans[index]
        with episode_of(self._path, index), reading(span.file, DecodeError):
            pairs = [AgentInfoActionPairProto.FromString(content) for content in _contents(span)]
            return Episode(
                observations=self._seen([pair.agent_info for pair in pairs]),
                actions=self._done([pair.action_info for pair in (pairs[1:] if span.is_leading else pairs[:-1])]),
                rewards=_rewards([pair.agent_info for pair in pairs[1:]]),
                terminated=span.is_terminated,
            )

    def __reduce__(self) -> tuple[type[UnityDemonstrationSource], tuple[Path]]:
        return type(self), (self._path,)

    def _seen(self, infos: Sequence[Any]) -> Tree:
        sensors = enumerate(self._observations.sensors)
        return self._observations.batch(
            [stacked_observations([info.observations[i] for info in infos], sensor.shape) for i, sensor in sensors]
        )

    def _done(self, actions: Sequence[Any]) -> Tree:
        parts = [_action_parts(action, self._actions) for action in actions]
        continuous = np.array([one for one, _ in parts], dtype=np.float32)
        discrete = np.array([other for _, other in parts], dtype=np.int32)
        return self._actions.join(continuous, discrete)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """One file: what the agent sees and does, and where its episodes lie.

    Attributes:
        file: The file.
        behavior: Name of the behaviour that was recorded.
        observations: What the agent sees.
        actions: What it can do.
        spans: The episodes, at least one.
    """

    file: Path
    behavior: str
    observations: UnityObservations
    actions: UnityActions
    spans: tuple[Span, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """What has to be known of a message to find the episodes.

    Attributes:
        bounds: Start and end in bytes.
        agent: The agent's id.
        done: It is an episode's end.
        interrupted: The end was none of the task.
        has_action: It holds an action that is not all zeros.
    """

    bounds: tuple[int, int]
    agent: int
    done: bool
    interrupted: bool
    has_action: bool


def open_recording(file: Path) -> Recording | None:
    """Look through a file; None if it holds no episode.

    Raises:
        CorruptArchiveError: It is truncated or damaged.
        NewerFormatError: Only newer software reads it.
    """
    with reading(file, DecodeError, ValueError):
        content = file.read_bytes()
        header = DemonstrationMetaProto.FromString(_message(content, 0))
        if header.api_version > NEWEST_VERSION:
            raise NewerFormatError(f"{file} has version {header.api_version}, expected up to {NEWEST_VERSION}.")
        start, end = _bounds(content, PARAMETERS_AT)
        parameters = BrainParametersProto.FromString(content[start:end])
        is_closed = header.number_episodes > 0  # Closing a recording counts the episode that it leaves open.
        records = list(_records(content, end, header.number_steps if is_closed else None))
        spans = tuple(_episodes(file, [_mark(content, bounds) for bounds in records]))
        if not spans:
            return None
        start, end = records[0]
        spec = behavior_spec_from_proto(parameters, AgentInfoActionPairProto.FromString(content[start:end]).agent_info)
    sensors = [UnitySensor.of(one.name, one.shape, one.dimension_property) for one in spec.observation_specs]
    actions = UnityActions(spec.action_spec.continuous_size, spec.action_spec.discrete_branches)
    return Recording(
        file=file,
        behavior=parameters.brain_name,
        observations=UnityObservations(sensors),
        actions=actions,
        spans=spans,
    )


def _mark(content: bytes, bounds: tuple[int, int]) -> Mark:
    pair = AgentInfoActionPairProto.FromString(content[bounds[0] : bounds[1]])
    info, action = pair.agent_info, pair.action_info
    return Mark(
        bounds=bounds,
        agent=info.id,
        done=info.done,
        interrupted=info.max_step_reached,
        has_action=any(
            map(any, (action.continuous_actions, action.discrete_actions, action.vector_actions_deprecated))
        ),
    )


def _episodes(file: Path, marks: Sequence[Mark]) -> Iterator[Span]:
    """Cut the stream after each end and where the agent's id changes; what has no step is left out."""
    runs = list(_runs(marks))
    first = [run[0].has_action for run in runs]
    for run in runs:
        if len(run) > 1:
            yield Span(
                file=file,
                records=tuple(mark.bounds for mark in run),
                is_terminated=run[-1].done and not run[-1].interrupted,
                is_leading=not any(first[1:] or first),
            )


def _runs(marks: Sequence[Mark]) -> Iterator[Sequence[Mark]]:
    start = 0
    for index, mark in enumerate(marks):
        is_last = index + 1 == len(marks)
        if is_last or mark.done or marks[index + 1].agent != mark.agent:
            yield marks[start : index + 1]
            start = index + 1


def _contents(span: Span) -> Iterator[bytes]:
    """The messages of an episode, which lie behind each other."""
    offset = span.records[0][0]
    with span.file.open("rb") as stream:
        stream.seek(offset)
        content = stream.read(span.records[-1][1] - offset)
    for start, end in span.records:
        yield content[start - offset : end - offset]


def _rewards(infos: Sequence[Any]) -> FloatArray:
    return np.array([info.reward + info.group_reward for info in infos], dtype=np.float32)


def _action_parts(action: Any, actions: UnityActions) -> tuple[Sequence[float], Sequence[float]]:
    """Continuous and discrete part; files from before protocol 1.3 have one field for either."""
    if action.continuous_actions or action.discrete_actions:
        return list(action.continuous_actions), list(action.discrete_actions)
    old = list(action.vector_actions_deprecated)
    if old:
        return (old, []) if actions.continuous_size else ([], old)
    return [0.0] * actions.continuous_size, [0] * len(actions.branches)


def _records(content: bytes, start: int, count: int | None) -> Iterator[tuple[int, int]]:
    """Bounds of the messages; behind the announced number lies nothing of use.

    Args:
        content: The file.
        start: Where the first one begins.
        count: Their number; None in a recording that was never closed, whose last message may be cut off.

    Raises:
        ValueError: There are fewer.
    """
    found, position = 0, start
    while position < len(content) and found != count:
        try:
            begin, position = _bounds(content, position)
        except ValueError:
            if count is None:
                return
            raise
        found += 1
        yield begin, position
    if count is not None and found < count:
        raise ValueError(f"expected {count} messages, found {found}")


def _message(content: bytes, position: int) -> bytes:
    start, end = _bounds(content, position)
    return content[start:end]


def _bounds(content: bytes, position: int) -> tuple[int, int]:
    """Start and end of the message whose length is written at a position, seven bits a byte, the lowest first."""
    length = shift = 0
    while True:
        if position >= len(content) or shift > 28:
            raise ValueError(f"no length at byte {position} of {len(content)}")
        byte = content[position]
        position += 1
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if position + length > len(content):
        raise ValueError(f"expected {length} bytes at {position}, the file has {len(content)}")
    return position, position + length


def _check_same(first: Recording, other: Recording) -> None:
    for what, one, two in (
        ("observation", first.observations.space, other.observations.space),
        ("action", first.actions.space, other.actions.space),
    ):
        if one != two:
            raise SpaceError(
                f"The recordings {first.file.name} and {other.file.name} have different {what} spaces: {one} and "
                f"{two}. Put recordings of one behaviour into a folder."
            )
