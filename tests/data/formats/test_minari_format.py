from __future__ import annotations

import json
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings

from rl_framework.core.trees import map_tree
from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.data.formats.minari_format import ARROW, HDF5, MinariFormat
from rl_framework.errors import (
    CorruptArchiveError,
    InvalidInputError,
    LossyConversionWarning,
    MissingExtraError,
    SpaceError,
    UnsafeArchiveError,
)
from tests.data.formats.episodes import pictures, same, sequences, walk

FORMS = pytest.mark.parametrize("form", [HDF5, ARROW], ids=["hdf5", "arrow"])
OBSERVATIONS: dict[str, gym.Space[Any]] = {
    "box": spaces.Box(-1, 1, (3,), np.float32),
    "double": spaces.Box(-1, 1, (2, 2), np.float64),
    "discrete": spaces.Discrete(5, start=2),
    "bits": spaces.MultiBinary(4),
    "several": spaces.MultiDiscrete([3, 4]),
    "picture": spaces.Box(0, 255, (32, 33, 3), np.uint8),
    "dict": spaces.Dict({"b": spaces.Box(-1, 1, (3,), np.float32), "a": spaces.Discrete(3)}),
    "tuple": spaces.Tuple([spaces.Discrete(3), spaces.Dict({"x": spaces.Box(0, 255, (40, 40), np.uint8)})]),
}
THEIRS_WARNS = pytest.mark.filterwarnings("ignore:.*is set to None:UserWarning", "ignore:env_spec is None:UserWarning")


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "root"))
    return tmp_path / "root"


def in_space(space: gym.Space[Any], n_episodes: int = 3) -> EpisodeSequence:
    """Episodes of values that a space samples."""
    space.seed(0)
    action_space = spaces.Discrete(2)
    return EpisodeSequence.from_episodes(
        [
            Episode(
                observations=stacked([space.sample() for _ in range(4 + number)]),
                actions=np.arange(3 + number) % 2,
                rewards=np.linspace(0, 1, 3 + number),
                terminated=number % 2 == 0,
            )
            for number in range(n_episodes)
        ],
        observation_space=space,
        action_space=action_space,
    )


def stacked(values: list[Any]) -> Any:
    return map_tree(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *values)


def agree(theirs: Any, episode: Episode) -> None:
    def equal(one: np.ndarray, other: np.ndarray) -> None:
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype

    map_tree(equal, theirs.observations, episode.observations)
    map_tree(equal, theirs.actions, episode.actions)
    equal(theirs.rewards, np.asarray(episode.rewards))
    assert theirs.terminations.tolist() == [False] * (len(episode) - 1) + [episode.terminated]
    assert theirs.truncations.tolist() == [False] * (len(episode) - 1) + [episode.truncated]


@FORMS
@given(episodes=sequences(rewards=True))
@settings(max_examples=40)
def test_round_trip_gives_equal_arrays(
    tmp_path_factory: pytest.TempPathFactory, form: MinariFormat, episodes: EpisodeSequence
) -> None:
    path = tmp_path_factory.mktemp("set") / "demonstrations"
    form.write(episodes, path)
    assert form.recognises(path)
    source = form.open(path)
    assert source.lengths.tolist() == episodes.lengths.tolist()
    assert source.has_rewards
    assert source.observation_space is None
    same(EpisodeSequence(source), episodes)


@FORMS
@pytest.mark.parametrize("space", OBSERVATIONS.values(), ids=OBSERVATIONS)
def test_minari_reads_what_is_written(tmp_path: Path, form: MinariFormat, space: gym.Space[Any]) -> None:
    minari = pytest.importorskip("minari")
    episodes = in_space(space)
    path = episodes.save(f"{form.name}://expert/walks-v0")
    assert path == tmp_path / "root" / "expert" / "walks-v0"
    theirs = minari.load_dataset("expert/walks-v0")
    assert theirs.observation_space == space
    assert theirs.action_space == spaces.Discrete(2)
    assert theirs.total_steps == episodes.n_transitions
    assert theirs.id == "expert/walks-v0"
    assert theirs.spec.dataset_name == "walks"
    assert len(theirs) == len(episodes)
    for number, episode in enumerate(episodes):
        agree(theirs[number], episode)
    same(EpisodeSequence.from_dataset(f"{form.name}://expert/walks-v0"), episodes)


@THEIRS_WARNS
@pytest.mark.parametrize("data_format", ["hdf5", "arrow", "parquet"])
@pytest.mark.parametrize("space", OBSERVATIONS.values(), ids=OBSERVATIONS)
def test_what_minari_writes_is_read(tmp_path: Path, space: gym.Space[Any], data_format: str) -> None:
    episodes = in_space(space)
    theirs = created_by_minari(episodes, data_format, jpeg_encoding=False)
    ours = EpisodeSequence.from_dataset(tmp_path / "root" / "theirs" / "set-v0")
    assert ours.observation_space == space
    assert ours.action_space == spaces.Discrete(2)
    assert ours.metadata["dataset_id"] == "theirs/set-v0"
    same(ours, episodes)
    for number, episode in enumerate(ours):
        agree(theirs[number], episode)


@THEIRS_WARNS
@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
def test_compressed_pictures_are_decoded_as_minari_does(tmp_path: Path, data_format: str) -> None:
    theirs = created_by_minari(in_space(OBSERVATIONS["picture"]), data_format, jpeg_encoding=True)
    ours = EpisodeSequence.from_dataset(tmp_path / "root" / "theirs" / "set-v0")
    for number, episode in enumerate(ours):
        agree(theirs[number], episode)


@FORMS
@THEIRS_WARNS
def test_notes_are_ignored_once_minari_has_added_episodes(form: MinariFormat) -> None:
    minari = pytest.importorskip("minari")
    make_buffer = pytest.importorskip("minari.data_collector").EpisodeBuffer

    episodes = in_space(OBSERVATIONS["box"])
    episodes.save(f"{form.name}://expert/walks-v0")
    added = episodes[0]
    fields = {"rewards": added.rewards, "terminations": [False] * 3, "truncations": [False] * 3}
    buffer = make_buffer(observations=added.observations, actions=added.actions, **fields)
    minari.load_dataset("expert/walks-v0").update_dataset_from_buffer([buffer])
    ours = EpisodeSequence.from_dataset(f"{form.name}://expert/walks-v0")
    assert ours.lengths.tolist() == [3, 4, 5, 3]
    assert not ours[3].terminated
    assert ours[1] == episodes[1]


@FORMS
@THEIRS_WARNS
def test_a_task_that_ends_too_early_is_refused(tmp_path: Path, form: MinariFormat) -> None:
    created_by_minari(in_space(OBSERVATIONS["box"], 1), form.data_format, terminations=[True, False, False])
    with pytest.raises(InvalidInputError, match=r"Episode 0 of .*ends at step 0 of 3"):
        form.open(tmp_path / "root" / "theirs" / "set-v0").read(0)


@FORMS
def test_the_environment_is_told(form: MinariFormat) -> None:
    minari = pytest.importorskip("minari")
    episodes = EpisodeSequence.from_episodes(walk(), metadata={"environment_id": "CartPole-v1"})
    with pytest.warns(LossyConversionWarning, match="The action space is not known"):
        episodes.save(f"{form.name}://expert/walks-v0")
    assert minari.load_dataset("expert/walks-v0").env_spec.id == "CartPole-v1"
    assert form.open(form.locate("expert/walks-v0")).metadata["environment_id"] == "CartPole-v1"


@FORMS
def test_data_sets_elsewhere_get_an_id_from_their_folder(tmp_path: Path, form: MinariFormat) -> None:
    minari = pytest.importorskip("minari")
    path = in_space(OBSERVATIONS["box"]).save(tmp_path / "my walks", form.name)
    assert minari.MinariDataset(path / "data").id == "my-walks-v0"


@FORMS
def test_ids_that_are_none_are_refused(form: MinariFormat, root: Path) -> None:
    with pytest.raises(InvalidInputError, match="namespace/name-v0"):
        in_space(OBSERVATIONS["box"]).save(root / "walks", form.name)
    assert not (root / "walks").exists()


@FORMS
def test_rewards_are_needed(tmp_path: Path, form: MinariFormat) -> None:
    with pytest.raises(InvalidInputError, match="have no rewards"):
        walk(rewards=None).save(tmp_path / "set", form.name)


@FORMS
def test_lost_infos_are_told(tmp_path: Path, form: MinariFormat) -> None:
    with pytest.warns(LossyConversionWarning, match="infos are left out"):
        walk(infos=True).save(tmp_path / "set", form.name)


@FORMS
def test_pictures_take_little_more_than_their_size(tmp_path: Path, form: MinariFormat) -> None:
    episodes = pictures(4, length=100)
    form.write(episodes, tmp_path / "set")
    size = sum(file.stat().st_size for file in (tmp_path / "set").rglob("*") if file.is_file())
    assert size <= 1.1 * sum(episode.observations.nbytes for episode in episodes)


@FORMS
def test_a_source_can_be_pickled(tmp_path: Path, form: MinariFormat) -> None:
    episodes = walk()
    form.write(episodes, tmp_path / "set")
    assert pickle.loads(pickle.dumps(form.open(tmp_path / "set"))).read(1) == episodes[1]


def test_a_truncated_hdf5_file_is_refused(tmp_path: Path) -> None:
    HDF5.write(walk(), tmp_path / "set")
    file = tmp_path / "set" / "data" / "main_data.hdf5"
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(CorruptArchiveError, match=r"main_data\.hdf5 cannot be read"):
        HDF5.open(tmp_path / "set").read(0)


def test_a_truncated_arrow_file_is_refused(tmp_path: Path) -> None:
    ARROW.write(walk(), tmp_path / "set")
    file = tmp_path / "set" / "data" / "1" / "part-0.arrow"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CorruptArchiveError, match=r"1/part-0\.arrow"):
        ARROW.open(tmp_path / "set").read(1)


def test_missing_episodes_are_noticed(tmp_path: Path) -> None:
    for form in (HDF5, ARROW):
        form.write(walk(), tmp_path / form.name)
        metadata = tmp_path / form.name / "data" / "metadata.json"
        changed = json.loads(metadata.read_text()) | {"total_episodes": 5}
        metadata.write_text(json.dumps(changed))
    with pytest.raises(CorruptArchiveError, match="has 3 episodes, its metadata list 5"):
        HDF5.open(tmp_path / "minari")
    with pytest.raises(CorruptArchiveError, match="holds no data of an episode"):
        ARROW.open(tmp_path / "minari_arrow").lengths  # noqa: B018  they are found when they are asked for


@FORMS
def test_lengths_that_disagree_are_refused(tmp_path: Path, form: MinariFormat) -> None:
    form.write(walk(), tmp_path / "set")
    if form is HDF5:
        with h5py.File(tmp_path / "set" / "data" / "main_data.hdf5", "a") as file:
            del file["episode_1"]["actions"]
            file["episode_1"]["actions"] = np.zeros(2)
        message = "Episode 1 of .*observations has 6 entries, expected 3"
    else:
        shutil.copytree(tmp_path / "set" / "data" / "0", tmp_path / "set" / "data" / "1", dirs_exist_ok=True)
        message = "episode 1 has 4 steps, expected 5"
    with pytest.raises((InvalidInputError, CorruptArchiveError), match=message):
        form.open(tmp_path / "set").read(1)


@pytest.mark.parametrize("kind", ["link", "external", "virtual", "objects"])
def test_what_lies_elsewhere_or_is_no_number_is_refused(tmp_path: Path, kind: str) -> None:
    HDF5.write(walk(), tmp_path / "set")
    with h5py.File(tmp_path / "secret.hdf5", "w") as secret:
        secret["secret"] = np.zeros(4)
    with h5py.File(tmp_path / "set" / "data" / "main_data.hdf5", "a") as file:
        group = file["episode_0"]
        del group["rewards"]
        if kind == "link":
            group["rewards"] = h5py.ExternalLink("../../secret.hdf5", "secret")
        elif kind == "external":
            group.create_dataset("rewards", (4,), "f8", external=[(str(tmp_path / "secret.hdf5"), 0, 32)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout((4,), "f8")
            layout[:] = h5py.VirtualSource(tmp_path / "secret.hdf5", "secret", (4,))
            group.create_virtual_dataset("rewards", layout)
        else:
            group.create_dataset("rewards", data=[b"x"] * 4, dtype=h5py.string_dtype())
    with pytest.raises(UnsafeArchiveError, match="objects" if kind == "objects" else "another file"):
        HDF5.open(tmp_path / "set").read(0)


@FORMS
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"total_episodes": 0}, InvalidInputError, "holds no episodes"),
        ({"total_episodes": "many"}, CorruptArchiveError, "is damaged"),
        ({"data_format": "csv"}, InvalidInputError, "'csv'"),
        ({"rl_framework": {"version": 1}}, CorruptArchiveError, "notes of this library"),
        ({"rl_framework": None, "observation_space": '{"type": "Graph"}'}, SpaceError, "Graph"),
    ],
    ids=["empty", "damaged", "unknown form", "notes", "space"],
)
def test_damaged_metadata_are_refused(
    tmp_path: Path, form: MinariFormat, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    form.write(walk(), tmp_path / "set")
    metadata = tmp_path / "set" / "data" / "metadata.json"
    changed = json.loads(metadata.read_text()) | change
    metadata.write_text(json.dumps({key: value for key, value in changed.items() if value is not None}))
    with pytest.raises(error, match=message):
        form.open(tmp_path / "set")


def test_keys_that_hdf5_cannot_hold_are_refused(tmp_path: Path) -> None:
    observations = {"left/right": np.zeros((5, 2))}
    with pytest.raises(InvalidInputError, match="'left/right' is no name"):
        HDF5.write(walk(1, observations=observations), tmp_path / "set")


@FORMS
def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: MinariFormat) -> None:
    form.write(walk(), tmp_path / "set")
    monkeypatch.setitem(sys.modules, {"hdf5": "h5py", "arrow": "pyarrow"}[form.data_format], None)
    assert form.recognises(tmp_path / "set")
    with pytest.raises(MissingExtraError, match=r"rl_framework\[datasets\]"):
        form.open(tmp_path / "set")


def test_each_form_recognises_its_own(tmp_path: Path) -> None:
    HDF5.write(walk(), tmp_path / "set")
    assert HDF5.recognises(tmp_path / "set" / "data")
    assert not ARROW.recognises(tmp_path / "set")
    assert not HDF5.recognises(tmp_path)
    assert not HDF5.recognises(tmp_path / "set" / "data" / "main_data.hdf5")


def test_ids_and_paths_are_told_apart(root: Path) -> None:
    assert HDF5.locate("D4RL/door/human-v2") == root / "D4RL" / "door" / "human-v2"
    assert HDF5.locate("/data/door-v2") == Path("/data/door-v2")
    assert HDF5.locate("./door-v2") == Path("door-v2")


def created_by_minari(
    episodes: EpisodeSequence, data_format: str, *, jpeg_encoding: bool = False, **changes: Any
) -> Any:
    minari = pytest.importorskip("minari")
    make_buffer = pytest.importorskip("minari.data_collector").EpisodeBuffer

    buffers = []
    for episode in episodes:
        last = np.arange(len(episode)) == len(episode) - 1
        flags = {"terminations": last & episode.terminated, "truncations": last & episode.truncated} | changes
        infos = {"secret": np.zeros((len(episode) + 1, 1))}
        content = {"observations": episode.observations, "actions": episode.actions, "rewards": episode.rewards}
        buffers.append(make_buffer(infos=infos, **content, **flags))
    return minari.create_dataset_from_buffers(
        "theirs/set-v0",
        buffers,
        observation_space=episodes.observation_space,
        action_space=episodes.action_space,
        data_format=data_format,
        jpeg_encoding=jpeg_encoding,
    )
