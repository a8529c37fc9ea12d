"""Unity's recordings, written here message by message as its recorder writes them."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rl_framework.compat.mlagents_protocol import prepare
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.data.formats.unity_demonstrations import FORMAT
from rl_framework.errors import CorruptArchiveError, InvalidInputError, NewerFormatError, SpaceError

pytest.importorskip("mlagents_envs")
prepare()


@dataclass(kw_only=True)
class Message:
    """What the recorder notes once.

    Attributes:
        seen: The observation of each sensor.
        continuous: The continuous actions.
        discrete: The discrete actions.
        reward: Earned since the last message.
        group_reward: Earned by the group.
        end: `"done"`, or `"interrupted"`.
        agent: Its id.
    """

    seen: Sequence[Any]
    continuous: Sequence[float] = ()
    discrete: Sequence[int] = ()
    reward: float = 0.0
    group_reward: float = 0.0
    end: str = ""
    agent: int = 1


@dataclass(kw_only=True)
class Behavior:
    """What the recorder notes of the behaviour; protocols before 1.3 have one field for all actions."""

    n_continuous: int = 0
    branches: Sequence[int] = ()
    sensors: Sequence[str] = ("Reach",)
    version: int = 1
    is_old: bool = False


def delimited(message: Any) -> bytes:
    content: bytes = message.SerializeToString()
    length, head = len(content), b""
    while length > 0x7F:
        head += bytes([length & 0x7F | 0x80])
        length >>= 7
    return head + bytes([length]) + content


def pair(behavior: Behavior, noted: Message) -> Any:
    from mlagents_envs.communicator_objects.agent_info_action_pair_pb2 import AgentInfoActionPairProto

    found = AgentInfoActionPairProto()
    info = found.agent_info
    info.reward, info.group_reward, info.id = noted.reward, noted.group_reward, noted.agent
    info.done, info.max_step_reached = bool(noted.end), noted.end == "interrupted"
    for name, seen in zip(behavior.sensors, noted.seen, strict=True):
        observation = info.observations.add(name=name, shape=np.shape(seen))
        observation.float_data.data.extend(np.ravel(seen).tolist())
    if behavior.is_old:
        found.action_info.vector_actions_deprecated.extend([*noted.continuous, *noted.discrete])
    else:
        found.action_info.continuous_actions.extend(noted.continuous)
        found.action_info.discrete_actions.extend(noted.discrete)
    return found


def record(
    path: Path, behavior: Behavior, messages: Sequence[Message], *, closed: bool = True, cut: int | None = None
) -> Path:
    """Write a file; one that was never closed announces no messages."""
    from mlagents_envs.communicator_objects.brain_parameters_pb2 import BrainParametersProto
    from mlagents_envs.communicator_objects.demonstration_meta_pb2 import DemonstrationMetaProto

    header = DemonstrationMetaProto(api_version=behavior.version, demonstration_name="Reach")
    parameters = BrainParametersProto(brain_name="Reach")
    if behavior.is_old:
        parameters.vector_action_space_type_deprecated = int(behavior.n_continuous > 0)
        parameters.vector_action_size_deprecated.extend(
            [behavior.n_continuous] if behavior.n_continuous else behavior.branches
        )
    else:
        parameters.action_spec.num_continuous_actions = behavior.n_continuous
        parameters.action_spec.num_discrete_actions = len(behavior.branches)
        parameters.action_spec.discrete_branch_sizes.extend(behavior.branches)
    if closed:
        header.number_steps, header.number_episodes, header.mean_reward = len(messages), 2, 1.0
    content = delimited(header).ljust(33, b"\0") + delimited(parameters)
    content += b"".join(delimited(pair(behavior, one)) for one in messages)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((content + header.SerializeToString() if closed else content)[:cut])
    return path


REACH = Behavior(n_continuous=1)


def two_episodes() -> list[Message]:
    """One that the task ended after two steps, one that was interrupted after three; actions lead to their message."""
    return [
        Message(seen=[[0.0, 0.0]], continuous=[0.0], reward=9.0),
        Message(seen=[[0.0, 1.0]], continuous=[0.1], reward=1.0),
        Message(seen=[[0.0, 2.0]], continuous=[0.2], reward=2.0, group_reward=0.5, end="done"),
        Message(seen=[[1.0, 0.0]], continuous=[0.0], reward=9.0),
        Message(seen=[[1.0, 1.0]], continuous=[0.3], reward=3.0),
        Message(seen=[[1.0, 2.0]], continuous=[0.4], reward=4.0),
        Message(seen=[[1.0, 3.0]], continuous=[0.5], reward=5.0, end="interrupted"),
    ]


def test_episodes_are_cut_at_their_ends(tmp_path: Path) -> None:
    episodes = EpisodeSequence.from_dataset(record(tmp_path / "reach.demo", REACH, two_episodes()))

    assert episodes.lengths.tolist() == [2, 3]
    assert [(one.terminated, one.truncated) for one in episodes] == [(True, False), (False, True)]
    assert episodes[0].observations.tolist() == [[0, 0], [0, 1], [0, 2]]
    assert np.asarray(episodes[0].rewards).tolist() == [1.0, 2.5]
    assert np.asarray(episodes[1].rewards).tolist() == [3.0, 4.0, 5.0]
    assert episodes.observation_space == gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    assert episodes.action_space == gym.spaces.Box(-1, 1, (1,), np.float32)
    assert episodes.metadata["behavior"] == "Reach"


def test_unity_notes_the_action_that_led_to_a_message(tmp_path: Path) -> None:
    episodes = EpisodeSequence.from_dataset(record(tmp_path / "reach.demo", REACH, two_episodes()))
    np.testing.assert_allclose([one.actions[:, 0].tolist() for one in episodes[:1]], [[0.1, 0.2]])
    np.testing.assert_allclose(episodes[1].actions[:, 0], [0.3, 0.4, 0.5])


def test_where_an_episode_begins_with_an_action_it_is_the_one_that_follows(tmp_path: Path) -> None:
    messages = two_episodes()
    messages[3].continuous = [0.7]
    episodes = EpisodeSequence.from_dataset(record(tmp_path / "reach.demo", REACH, messages))
    np.testing.assert_allclose(episodes[0].actions[:, 0], [0.0, 0.1])
    np.testing.assert_allclose(episodes[1].actions[:, 0], [0.7, 0.3, 0.4])


def test_a_recording_that_begins_in_the_middle_of_an_episode_is_still_unitys(tmp_path: Path) -> None:
    messages = two_episodes()
    messages[0].continuous = [0.7]
    episodes = EpisodeSequence.from_dataset(record(tmp_path / "reach.demo", REACH, messages))
    np.testing.assert_allclose(episodes[0].actions[:, 0], [0.1, 0.2])


def test_what_the_recording_leaves_open_is_cut(tmp_path: Path) -> None:
    path = record(tmp_path / "reach.demo", REACH, two_episodes()[:6])
    assert [(len(one), one.terminated) for one in EpisodeSequence.from_dataset(path)] == [(2, True), (2, False)]


def test_another_agent_begins_another_episode_and_ends_alone_are_none(tmp_path: Path) -> None:
    messages = two_episodes()
    for one in messages[5:]:
        one.agent = 2
    alone = Message(seen=[[5.0, 5.0]], continuous=[0.0], end="done")
    path = record(tmp_path / "reach.demo", REACH, [*messages, alone])
    assert EpisodeSequence.from_dataset(path).lengths.tolist() == [2, 1, 1]


@pytest.mark.parametrize(
    ("behavior", "space", "first"),
    [
        (Behavior(branches=(3,)), gym.spaces.Discrete(3), {"discrete": [2]}),
        (Behavior(branches=(3, 2)), gym.spaces.MultiDiscrete([3, 2]), {"discrete": [2, 1]}),
        (Behavior(branches=(3, 2), is_old=True), gym.spaces.MultiDiscrete([3, 2]), {"discrete": [2, 1]}),
        (Behavior(n_continuous=2, is_old=True), gym.spaces.Box(-1, 1, (2,), np.float32), {"continuous": [0.5, -0.5]}),
        (
            Behavior(n_continuous=1, branches=(2,)),
            gym.spaces.Dict(continuous=gym.spaces.Box(-1, 1, (1,), np.float32), discrete=gym.spaces.Discrete(2)),
            {"continuous": [0.5], "discrete": [1]},
        ),
    ],
)
def test_actions_have_the_spaces_of_the_game(
    tmp_path: Path, behavior: Behavior, space: gym.Space[Any], first: dict[str, Any]
) -> None:
    zeros: dict[str, Any] = {"continuous": [0.0] * behavior.n_continuous, "discrete": [0] * len(behavior.branches)}
    messages = [Message(seen=[[0.0]], **zeros), Message(seen=[[1.0]], end="done", **{**zeros, **first})]
    episodes = EpisodeSequence.from_dataset(record(tmp_path / "reach.demo", behavior, messages))
    actions = episodes[0].actions

    assert episodes.action_space == space
    found = {name: part[0] for name, part in actions.items()} if isinstance(actions, dict) else actions[0]
    assert space.contains(found)
    parts = found if isinstance(found, dict) else {next(iter(first)): found}
    for name, value in first.items():
        np.testing.assert_array_equal(np.ravel(parts[name]), value)


def test_several_sensors_and_pictures_have_the_spaces_of_the_game(tmp_path: Path) -> None:
    picture = np.zeros((3, 5, 7), np.float32)
    picture[1, 2, 3] = 1.0
    messages = [
        Message(seen=[[0.5, 0.25], picture], continuous=[0.0]),
        Message(seen=[[0.5, 0.75], picture], continuous=[0.1], end="done"),
    ]
    behavior = Behavior(n_continuous=1, sensors=("Position", "Camera"))
    episodes = EpisodeSequence.from_dataset(record(tmp_path / "reach.demo", behavior, messages))
    assert episodes.observation_space == gym.spaces.Dict(
        Position=gym.spaces.Box(-np.inf, np.inf, (2,), np.float32), Camera=gym.spaces.Box(0, 255, (3, 5, 7), np.uint8)
    )
    assert episodes[0].observations["Position"].tolist() == [[0.5, 0.25], [0.5, 0.75]]
    assert episodes[0].observations["Camera"].sum() == 2 * 255
    assert episodes[0].observations["Camera"][1, 1, 2, 3] == 255


def test_a_folder_holds_all_its_recordings_by_name(tmp_path: Path) -> None:
    record(tmp_path / "b.demo", REACH, two_episodes()[3:])
    record(tmp_path / "a.demo", REACH, two_episodes()[:3])
    record(tmp_path / "c.demo", REACH, [])
    (tmp_path / "readme.txt").write_text("recorded on a Tuesday")
    for path in (tmp_path, f"unity://{tmp_path}"):
        assert EpisodeSequence.from_dataset(path).lengths.tolist() == [2, 3]


def test_recordings_of_different_behaviours_are_no_data_set(tmp_path: Path) -> None:
    record(tmp_path / "a.demo", REACH, two_episodes())
    other = [Message(seen=[[0.0]], continuous=[0.0]), Message(seen=[[1.0]], continuous=[0.1], end="done")]
    record(tmp_path / "b.demo", REACH, other)
    with pytest.raises(SpaceError, match=r"a\.demo and b\.demo have different observation spaces"):
        EpisodeSequence.from_dataset(tmp_path)


def test_a_recording_that_was_never_closed_gives_what_is_whole(tmp_path: Path) -> None:
    whole = record(tmp_path / "whole.demo", REACH, two_episodes(), closed=False)
    assert EpisodeSequence.from_dataset(whole).lengths.tolist() == [2, 3]
    size = whole.stat().st_size
    broken = record(tmp_path / "broken.demo", REACH, two_episodes(), closed=False, cut=size - 3)
    assert EpisodeSequence.from_dataset(broken).lengths.tolist() == [2, 2]


def test_a_closed_file_that_is_truncated_is_damaged(tmp_path: Path) -> None:
    size = record(tmp_path / "whole.demo", REACH, two_episodes()).stat().st_size
    for cut in (size - 40, 60, 36):
        path = record(tmp_path / "cut.demo", REACH, two_episodes(), cut=cut)
        with pytest.raises(CorruptArchiveError, match=r"cut\.demo cannot be read"):
            EpisodeSequence.from_dataset(path)


def test_arbitrary_bytes_behind_the_header_are_damage(tmp_path: Path) -> None:
    whole = record(tmp_path / "reach.demo", REACH, two_episodes()).read_bytes()
    rng = np.random.default_rng(0)
    for number in range(20):
        path = tmp_path / f"damaged_{number}.demo"
        path.write_bytes(whole[:45] + rng.integers(0, 256, len(whole), dtype=np.uint8).tobytes())
        with pytest.raises((CorruptArchiveError, InvalidInputError)):
            EpisodeSequence.from_dataset(path)[0]


def test_a_newer_version_is_told(tmp_path: Path) -> None:
    path = record(tmp_path / "reach.demo", Behavior(n_continuous=1, version=2), two_episodes())
    with pytest.raises(NewerFormatError, match="version 2, expected up to 1"):
        EpisodeSequence.from_dataset(path)


def test_a_recording_without_episodes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="holds no episodes"):
        EpisodeSequence.from_dataset(record(tmp_path / "reach.demo", REACH, []))


def test_messages_that_disagree_are_named_with_their_episode(tmp_path: Path) -> None:
    messages = two_episodes()
    messages[4].seen = [[1.0, 2.0, 3.0]]
    episodes = EpisodeSequence.from_dataset(record(tmp_path / "reach.demo", REACH, messages))
    with pytest.raises(InvalidInputError, match=r"Episode 1 of .*reach\.demo is not valid: expected 2 numbers, got 3"):
        episodes[1]


def test_a_sequence_can_be_sent_to_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(tmp_path / "reach.demo", REACH, two_episodes())
    monkeypatch.chdir(tmp_path)
    episodes = EpisodeSequence.from_dataset("reach.demo")
    monkeypatch.chdir("/")
    again = pickle.loads(pickle.dumps(episodes))
    assert again[1] == episodes[1]


def test_other_forms_take_what_was_recorded(tmp_path: Path) -> None:
    episodes = EpisodeSequence.from_dataset(record(tmp_path / "reach.demo", REACH, two_episodes()))
    saved = EpisodeSequence.from_dataset(episodes.save(tmp_path / "saved"))
    assert [saved[i] for i in range(2)] == [episodes[i] for i in range(2)]
    assert saved.action_space == episodes.action_space


def test_nothing_can_be_saved_in_this_form(tmp_path: Path) -> None:
    episodes = EpisodeSequence.from_dataset(record(tmp_path / "reach.demo", REACH, two_episodes()))
    with pytest.raises(InvalidInputError, match="read alone"):
        episodes.save(tmp_path / "new.demo", "unity")
    assert not (tmp_path / "new.demo").exists()


def test_files_are_recognised_by_name_and_beginning(tmp_path: Path) -> None:
    path = record(tmp_path / "reach.demo", REACH, two_episodes())
    assert FORMAT.recognises(path)
    assert FORMAT.recognises(tmp_path)
    assert not FORMAT.recognises(path.rename(tmp_path / "reach.bin"))
    (tmp_path / "other.demo").write_bytes(b"\x7fELF" + bytes(100))
    assert not FORMAT.recognises(tmp_path / "other.demo")
    assert not FORMAT.recognises(tmp_path)
    assert not FORMAT.recognises(tmp_path / "missing.demo")


def test_a_missing_package_names_the_extra(tmp_path: Path) -> None:
    path = record(tmp_path / "reach.demo", REACH, two_episodes())
    code = (
        "import sys; sys.modules['mlagents_envs'] = None\n"
        "from rl_framework import EpisodeSequence\n"
        f"try:\n    EpisodeSequence.from_dataset({str(path)!r})\n"
        "except ImportError as error:\n    print(type(error).__name__, error)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.startswith("MissingExtraError Reading Unity demonstrations needs the extra 'unity'")
