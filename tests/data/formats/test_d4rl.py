from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings

from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.data.formats.d4rl import FORMAT
from rl_framework.errors import (
    CorruptArchiveError,
    InvalidInputError,
    LossyConversionWarning,
    MissingExtraError,
    UnsafeArchiveError,
)
from tests.data.formats.episodes import pictures, same, sequences, walk


def d4rl_file(path: Path, **changes: Any) -> Path:
    """A file as D4RL has them: one episode that ends at step 2, one that is cut at step 5, one left open at step 7."""
    content = {
        "observations": np.arange(16, dtype=np.float32).reshape(8, 2),
        "actions": np.arange(8, dtype=np.float32).reshape(8, 1),
        "rewards": np.arange(8, dtype=np.float32),
        "terminals": np.isin(np.arange(8), [2]),
        "timeouts": np.isin(np.arange(8), [5]),
        "infos/qpos": np.zeros((8, 3)),
    } | changes
    with h5py.File(path, "w") as file:
        for name, value in content.items():
            if value is not None:
                file[name] = value
    return path


@given(episodes=sequences(rewards=True))
@settings(max_examples=60)
def test_round_trip_gives_equal_arrays(tmp_path_factory: pytest.TempPathFactory, episodes: EpisodeSequence) -> None:
    path = tmp_path_factory.mktemp("set") / "demonstrations.hdf5"
    FORMAT.write(episodes, path)
    assert FORMAT.recognises(path)
    source = FORMAT.open(path)
    assert source.lengths.tolist() == episodes.lengths.tolist()
    assert source.has_rewards
    same(EpisodeSequence(source), episodes)


def test_written_files_have_the_flat_arrays_of_d4rl(tmp_path: Path) -> None:
    episodes = walk()
    assert FORMAT.write(episodes, tmp_path / "set.hdf5") == []
    with h5py.File(tmp_path / "set.hdf5") as file:
        assert file["observations"].shape == file["next_observations"].shape == (15, 3)
        assert file["actions"].shape == file["rewards"].shape == (15,)
        assert np.flatnonzero(file["terminals"]).tolist() == [3, 14]
        assert np.flatnonzero(file["timeouts"]).tolist() == [8]
        np.testing.assert_array_equal(file["next_observations"][3], episodes[0].observations[-1])


def test_next_observations_tell_the_last_observation(tmp_path: Path) -> None:
    after = np.arange(2, 18, dtype=np.float32).reshape(8, 2)
    path = d4rl_file(tmp_path / "set.hdf5", next_observations=after)
    episodes = EpisodeSequence.from_dataset(path)
    assert episodes.lengths.tolist() == [3, 3, 2]
    assert [episode.terminated for episode in episodes] == [True, False, False]
    assert [episode.observations[-1].tolist() for episode in episodes] == [[6, 7], [12, 13], [16, 17]]
    assert episodes[1].actions.tolist() == [[3], [4], [5]]
    assert episodes[0].observations.dtype == np.float32
    assert episodes[0].infos is None


def test_without_them_cut_episodes_lose_a_step_and_ended_ones_repeat_an_observation(tmp_path: Path) -> None:
    path = d4rl_file(tmp_path / "set.hdf5")
    with pytest.warns(LossyConversionWarning, match="2 episodes that were cut .* 0 had .* 1 episodes that the task"):
        episodes = EpisodeSequence.from_dataset(path)
    assert episodes.lengths.tolist() == [3, 2, 1]
    assert [episode.terminated for episode in episodes] == [True, False, False]
    assert episodes[0].observations.tolist() == [[0, 1], [2, 3], [4, 5], [4, 5]]
    assert episodes[1].observations.tolist() == [[6, 7], [8, 9], [10, 11]]
    assert [np.asarray(episode.rewards).tolist() for episode in episodes] == [[0, 1, 2], [3, 4], [6]]


def test_episodes_of_which_nothing_remains_are_left_out(tmp_path: Path) -> None:
    path = d4rl_file(tmp_path / "set.hdf5", timeouts=np.isin(np.arange(8), [0, 5, 7]))
    with pytest.warns(LossyConversionWarning, match="3 episodes that were cut .* 1 had no other one"):
        episodes = EpisodeSequence.from_dataset(path)
    assert episodes.lengths.tolist() == [2, 2, 1]
    assert episodes[0].terminated
    assert [np.asarray(episode.rewards).tolist() for episode in episodes] == [[1, 2], [3, 4], [6]]


def test_timeouts_may_be_missing_and_flags_may_be_numbers_in_a_column(tmp_path: Path) -> None:
    changes = {"terminals": np.isin(np.arange(8), [2, 7]).reshape(8, 1).astype(float), "timeouts": None}
    path = d4rl_file(tmp_path / "set.hdf5", **changes, rewards=np.arange(8).reshape(8, 1))
    with pytest.warns(LossyConversionWarning, match="0 episodes that were cut"):
        episodes = EpisodeSequence.from_dataset(path)
    assert episodes.lengths.tolist() == [3, 5]
    assert np.asarray(episodes[1].rewards).tolist() == [3.0, 4.0, 5.0, 6.0, 7.0]


def test_dict_observations_survive_and_it_is_told_that_d4rl_does_not_know_them(tmp_path: Path) -> None:
    observations = {"goal": (np.zeros(5), np.ones((5, 2), np.float32)), "a": np.arange(5)}
    episodes = walk(1, observations=observations)
    with pytest.warns(LossyConversionWarning, match="other software does not"):
        episodes.save(tmp_path / "set.hdf5", "d4rl")
    same(EpisodeSequence.from_dataset(tmp_path / "set.hdf5"), episodes)


def test_pictures_are_stored_once(tmp_path: Path) -> None:
    episodes = pictures()
    with pytest.warns(LossyConversionWarning, match="store every picture twice"):
        episodes.save(tmp_path / "set.hdf5", "d4rl")
    assert (tmp_path / "set.hdf5").stat().st_size <= 1.1 * sum(one.observations.nbytes for one in episodes)
    same(EpisodeSequence.from_dataset(tmp_path / "set.hdf5"), episodes)


def test_rewards_are_needed(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="have no rewards"):
        walk(rewards=None).save(tmp_path / "set.hdf5", "d4rl")


def test_lost_infos_are_told(tmp_path: Path) -> None:
    with pytest.warns(LossyConversionWarning, match="infos are left out"):
        walk(infos=True).save(tmp_path / "set.hdf5", "d4rl")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observations": np.zeros((7, 2))}, "/observations has 7 entries, there are 8 terminals"),
        ({"actions": np.zeros((9, 2))}, "/actions has 9 entries"),
        ({"rewards": np.zeros(3)}, "/rewards has 3 entries"),
        ({"next_observations": np.zeros((7, 2))}, "/next_observations has 7 entries"),
        ({"timeouts": np.zeros(7, bool)}, "8 terminals and 7 timeouts"),
        ({"actions": 3.0}, "expected numbers"),
        ({"metadata/rl_framework": np.zeros(3, np.uint8)}, "damaged"),
    ],
    ids=["observations", "actions", "rewards", "next observations", "timeouts", "scalar", "notes"],
)
def test_arrays_that_disagree_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    changes = {"next_observations": np.zeros((8, 2))} | changes
    with pytest.raises(CorruptArchiveError, match=message):
        FORMAT.open(d4rl_file(tmp_path / "set.hdf5", **changes))


def test_objects_are_refused(tmp_path: Path) -> None:
    path = d4rl_file(tmp_path / "set.hdf5", observations=[b"text"] * 8, next_observations=np.zeros((8, 2)))
    with h5py.File(path, "a") as file:
        del file["observations"]
        file.create_dataset("observations", data=["text"] * 8, dtype=h5py.string_dtype())
    with pytest.raises(UnsafeArchiveError, match="holds objects"):
        FORMAT.open(path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    FORMAT.write(walk(), tmp_path / "set.hdf5")
    content = (tmp_path / "set.hdf5").read_bytes()
    (tmp_path / "set.hdf5").write_bytes(content[:-100])
    with pytest.raises(CorruptArchiveError, match=r"set\.hdf5 cannot be read"):
        FORMAT.open(tmp_path / "set.hdf5")


@pytest.mark.parametrize("steps", [0, 1])
def test_a_file_without_episodes_is_refused(tmp_path: Path, steps: int) -> None:
    names = ("observations", "actions", "rewards", "terminals", "timeouts")
    path = d4rl_file(tmp_path / "set.hdf5", **{name: np.zeros(steps) for name in names})
    if steps:
        with pytest.warns(LossyConversionWarning), pytest.raises(InvalidInputError, match="holds no episodes"):
            FORMAT.open(path)
        return
    with pytest.raises(InvalidInputError, match="holds no episodes"):
        FORMAT.open(path)


def test_a_source_can_be_pickled(tmp_path: Path) -> None:
    episodes = walk()
    FORMAT.write(episodes, tmp_path / "set.hdf5")
    assert pickle.loads(pickle.dumps(FORMAT.open(tmp_path / "set.hdf5"))).read(1) == episodes[1]


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FORMAT.write(walk(), tmp_path / "set.hdf5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert FORMAT.recognises(tmp_path / "set.hdf5")
    with pytest.raises(MissingExtraError, match=r"rl_framework\[datasets\]"):
        FORMAT.open(tmp_path / "set.hdf5")


def test_other_files_are_not_recognised(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["weights"] = np.zeros(3)
    (tmp_path / "broken.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n nothing else")
    assert not FORMAT.recognises(tmp_path / "other.hdf5")
    assert not FORMAT.recognises(tmp_path / "broken.hdf5")
    assert not FORMAT.recognises(tmp_path)
    assert not FORMAT.recognises(tmp_path / "nothing")


def test_one_step_episodes_stay_apart(tmp_path: Path) -> None:
    episode = Episode(observations=np.zeros((2, 1)), actions=np.zeros(1), rewards=np.ones(1), terminated=False)
    episodes = EpisodeSequence.from_episodes([episode] * 4)
    FORMAT.write(episodes, tmp_path / "set.hdf5")
    same(EpisodeSequence(FORMAT.open(tmp_path / "set.hdf5")), episodes)
