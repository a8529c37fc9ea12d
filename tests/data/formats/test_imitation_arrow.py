from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.data.formats.imitation_arrow import FORMAT
from rl_framework.errors import (
    CorruptArchiveError,
    InvalidInputError,
    LossyConversionWarning,
    MissingExtraError,
    UnsafeArchiveError,
)
from tests.data.formats.episodes import pictures, same, sequences, walk

DATA_FILE = "data-00000-of-00001.arrow"
EVIL = '{"py/reduce": [{"py/function": "os.system"}, {"py/tuple": ["touch %s"]}]}'


@given(episodes=sequences())
@settings(max_examples=60)
def test_round_trip_gives_equal_arrays(tmp_path_factory: pytest.TempPathFactory, episodes: EpisodeSequence) -> None:
    path = tmp_path_factory.mktemp("set") / "demonstrations"
    FORMAT.write(episodes, path)
    assert FORMAT.recognises(path)
    source = FORMAT.open(path)
    assert source.lengths.tolist() == episodes.lengths.tolist()
    assert source.has_rewards == episodes.has_rewards
    same(EpisodeSequence(source), episodes)


@pytest.mark.filterwarnings("ignore:keys will default:DeprecationWarning")
def test_the_imitation_library_reads_what_is_written(tmp_path: Path) -> None:
    serialize = pytest.importorskip("imitation.data.serialize")
    episodes = walk()
    assert FORMAT.write(episodes, tmp_path / "set") == []
    theirs = serialize.load(tmp_path / "set")
    assert len(theirs) == len(episodes)
    for trajectory, episode in zip(theirs, episodes, strict=True):
        np.testing.assert_array_equal(trajectory.obs, episode.observations)
        np.testing.assert_array_equal(trajectory.acts, episode.actions)
        np.testing.assert_array_equal(trajectory.rews, episode.rewards)
        assert trajectory.terminal == episode.terminated
        assert list(trajectory.infos) == [{}] * len(episode)


def test_the_imitation_library_reads_demonstrations_without_rewards(tmp_path: Path) -> None:
    serialize = pytest.importorskip("imitation.data.serialize")
    FORMAT.write(walk(rewards=None), tmp_path / "set")
    assert type(serialize.load(tmp_path / "set")[0]).__name__ == "Trajectory"


def test_the_imitation_library_reads_pictures(tmp_path: Path) -> None:
    serialize = pytest.importorskip("imitation.data.serialize")
    episodes = pictures(1, length=3)
    FORMAT.write(episodes, tmp_path / "set")
    np.testing.assert_array_equal(serialize.load(tmp_path / "set")[0].obs, episodes[0].observations)


@pytest.mark.filterwarnings("ignore:keys will default:DeprecationWarning")
@pytest.mark.parametrize("rewards", [True, False], ids=["rewards", "no rewards"])
def test_what_the_imitation_library_saves_is_read(tmp_path: Path, rewards: bool) -> None:
    serialize = pytest.importorskip("imitation.data.serialize")
    from imitation.data.types import Trajectory, TrajectoryWithRew

    episodes = walk(rewards=None) if not rewards else walk()
    trajectories = [
        TrajectoryWithRew(
            obs=e.observations, acts=e.actions, infos=None, terminal=e.terminated, rews=np.asarray(e.rewards)
        )
        if rewards
        else Trajectory(obs=e.observations, acts=e.actions, infos=None, terminal=e.terminated)
        for e in episodes
    ]
    serialize.save(tmp_path / "set", trajectories)
    assert FORMAT.recognises(tmp_path / "set")
    same(EpisodeSequence.from_dataset(tmp_path / "set"), episodes)


def test_whole_rewards_become_floats(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    row = {"obs": [[[0.0], [1.0]]], "acts": [[1]], "infos": [["{}"]], "terminal": [True], "rews": [[3]]}
    datasets.Dataset.from_dict(row).save_to_disk(tmp_path / "set")
    assert FORMAT.open(tmp_path / "set").read(0).rewards.tolist() == [3.0]  # type: ignore[union-attr]  # has rewards


def test_nothing_in_infos_is_decoded(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    trace = tmp_path / "trace"
    row = {"obs": [[[0.0], [1.0]]], "acts": [[1]], "infos": [[EVIL % trace]], "terminal": [True], "rews": [[3.0]]}
    datasets.Dataset.from_dict(row).save_to_disk(tmp_path / "set")
    episode = EpisodeSequence.from_dataset(tmp_path / "set")[0]
    assert episode.infos is None
    assert len(episode) == 1
    assert not trace.exists()


def test_infos_are_written_empty_and_their_loss_is_told(tmp_path: Path) -> None:
    with pytest.warns(LossyConversionWarning, match="infos are left out"):
        walk(infos=True).save(tmp_path / "set", "imitation")
    with pa.memory_map(str(tmp_path / "set" / DATA_FILE)) as file:
        stored = pa.ipc.open_stream(file).read_all()["infos"].to_pylist()
    assert {text for infos in stored for text in infos} == {"{}"}


def test_dict_observations_survive_and_it_is_told_that_the_library_cannot_read_them(tmp_path: Path) -> None:
    observations = {"camera": np.zeros((5, 4, 4, 3), np.uint8), "state": (np.zeros(5, np.float32), np.zeros((5, 2)))}
    episodes = walk(1, observations=observations)
    with pytest.warns(LossyConversionWarning, match="imitation library does not"):
        episodes.save(tmp_path / "set", "imitation")
    same(EpisodeSequence.from_dataset(tmp_path / "set"), episodes)


def test_spaces_and_metadata_are_kept(tmp_path: Path) -> None:
    import gymnasium as gym

    spaces = {"observation_space": gym.spaces.Box(-1, 1, (3,)), "action_space": gym.spaces.Discrete(2)}
    episodes = EpisodeSequence.from_episodes(walk(), **spaces, metadata={"environment_id": "CartPole-v1"})
    source = FORMAT.open(episodes.save(tmp_path / "set", "imitation"))
    assert source.observation_space == spaces["observation_space"]
    assert source.action_space == spaces["action_space"]
    assert source.metadata["environment_id"] == "CartPole-v1"


def test_pictures_take_little_more_than_their_size(tmp_path: Path) -> None:
    episodes = pictures()
    FORMAT.write(episodes, tmp_path / "set")
    size = sum(file.stat().st_size for file in (tmp_path / "set").iterdir())
    assert size <= 1.1 * sum(episode.observations.nbytes for episode in episodes)


def test_many_episodes_go_into_several_batches(tmp_path: Path) -> None:
    episodes = walk(1003, length=1)
    FORMAT.write(episodes, tmp_path / "set")
    with pa.memory_map(str(tmp_path / "set" / DATA_FILE)) as file:
        assert len(list(pa.ipc.open_stream(file))) == 2
    source = FORMAT.open(tmp_path / "set")
    assert source.read(1002) == episodes[1002]
    assert source.read(999) == episodes[999]


def test_reading_goes_on_after_pickling_the_source(tmp_path: Path) -> None:
    episodes = walk()
    FORMAT.write(episodes, tmp_path / "set")
    source = pickle.loads(pickle.dumps(FORMAT.open(tmp_path / "set")))
    assert source.read(1) == episodes[1]


@pytest.mark.parametrize("part", [0.3, 0.9], ids=["in the data", "in the last batch"])
def test_a_truncated_file_is_refused(tmp_path: Path, part: float) -> None:
    FORMAT.write(walk(1200, length=1), tmp_path / "set")
    file = tmp_path / "set" / DATA_FILE
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(CorruptArchiveError, match=DATA_FILE):
        FORMAT.open(tmp_path / "set")


def test_a_stream_cut_between_batches_is_refused(tmp_path: Path) -> None:
    FORMAT.write(walk(), tmp_path / "set")
    file = tmp_path / "set" / DATA_FILE
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(CorruptArchiveError, match="end of the stream"):
        FORMAT.open(tmp_path / "set")


def test_missing_rows_are_noticed(tmp_path: Path) -> None:
    FORMAT.write(walk(), tmp_path / "set")
    file = tmp_path / "set" / DATA_FILE
    with pa.memory_map(str(file)) as content:
        table = pa.ipc.open_stream(content).read_all()
    rewrite(file, table.slice(0, 2))
    with pytest.raises(CorruptArchiveError, match="2 episodes, its notes list 3"):
        FORMAT.open(tmp_path / "set")


def test_a_file_outside_of_the_folder_is_refused(tmp_path: Path) -> None:
    FORMAT.write(walk(), tmp_path / "set")
    (tmp_path / "set" / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../secret.arrow"}]}))
    with pytest.raises(UnsafeArchiveError, match=r"\.\./secret"):
        FORMAT.open(tmp_path / "set")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"obs": [[[0.0], [1.0], [2.0]]]}, "Episode 0 of .*observations has 3 entries, expected 2"),
        ({"rews": [[1.0, 2.0]]}, "Episode 0 of .*rewards has shape"),
        ({"obs": [[[0.0], [1.0, 2.0]]]}, "differ in shape"),
        ({"obs": [["left", "right"]]}, "expected numbers"),
        ({"acts": [[None]]}, "lacks 1 value"),
        ({"acts": [np.zeros(0)], "obs": [[[0.0]]], "rews": [np.zeros(0)]}, "at least one step"),
    ],
    ids=["observations", "rewards", "ragged", "text", "gap", "no step"],
)
def test_episodes_that_are_none_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    datasets = pytest.importorskip("datasets")
    row = {"obs": [[[0.0], [1.0]]], "acts": [[1]], "infos": [["{}"]], "terminal": [True], "rews": [[3.0]]}
    datasets.Dataset.from_dict(row | change).save_to_disk(tmp_path / "set")
    with pytest.raises(InvalidInputError, match=message):
        FORMAT.open(tmp_path / "set").read(0)


def test_a_data_set_without_rows_is_refused(tmp_path: Path) -> None:
    FORMAT.write(walk(), tmp_path / "set")
    file = tmp_path / "set" / DATA_FILE
    with pa.memory_map(str(file)) as content:
        table = pa.ipc.open_stream(content).read_all().replace_schema_metadata(None)
    rewrite(file, table.slice(0, 0))
    with pytest.raises(InvalidInputError, match="holds no episodes"):
        FORMAT.open(tmp_path / "set")


def test_several_splits_are_refused_with_their_names(tmp_path: Path) -> None:
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert FORMAT.recognises(tmp_path)
    with pytest.raises(InvalidInputError, match="'train', 'test'"):
        FORMAT.open(tmp_path)


@pytest.mark.parametrize(
    ("observations", "message"),
    [
        (np.zeros((5, 0), np.float32), "hold no number"),
        (np.zeros(5, np.complex64), "complex64"),
        (np.array(["left"] * 5), "holds booleans, integers and floats"),
    ],
    ids=["empty", "complex", "text"],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, observations: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        FORMAT.write(walk(1, observations=observations), tmp_path / "set")


def test_other_byte_orders_come_back(tmp_path: Path) -> None:
    episodes = walk(1, observations=np.arange(5, dtype=">f4"))
    FORMAT.write(episodes, tmp_path / "set")
    same(EpisodeSequence(FORMAT.open(tmp_path / "set")), episodes)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FORMAT.write(walk(), tmp_path / "set")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert FORMAT.recognises(tmp_path / "set")
    with pytest.raises(MissingExtraError, match=r"rl_framework\[datasets\]"):
        FORMAT.open(tmp_path / "set")


@pytest.mark.parametrize("content", [b"", b"{", b'{"_data_files": 3}', b'{"_data_files": []}', b"[1]"])
def test_other_folders_are_not_recognised(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.json").write_bytes(content)
    assert not FORMAT.recognises(tmp_path)
    assert not FORMAT.recognises(tmp_path / "state.json")
    assert not FORMAT.recognises(tmp_path / "nothing")


def rewrite(file: Path, table: pa.Table) -> None:
    content = pa.BufferOutputStream()
    with pa.ipc.new_stream(content, table.schema) as writer:
        writer.write_table(table)
    file.unlink()
    file.write_bytes(content.getvalue().to_pybytes())


def test_an_episode_is_read_without_copying(tmp_path: Path) -> None:
    FORMAT.write(walk(), tmp_path / "set")
    episode: Episode = FORMAT.open(tmp_path / "set").read(0)
    assert not episode.observations.flags.owndata
    assert not episode.observations.flags.writeable
