from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.data.formats.imitation_npz import FORMAT
from rl_framework.errors import CorruptArchiveError, InvalidInputError, LossyConversionWarning, UnsafeArchiveError
from tests.data.formats.episodes import pictures, same, sequences, walk


class Evil:
    """Runs something when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.trace,)


def as_the_library_saved(episodes: EpisodeSequence, **changes: Any) -> dict[str, Any]:
    """The arrays that `imitation.data.types.save` of imitation 0.3 wrote."""
    return {
        "obs": np.concatenate([episode.observations for episode in episodes]),
        "acts": np.concatenate([episode.actions for episode in episodes]),
        "infos": np.array([{"step": 0}] * episodes.n_transitions),
        "terminal": np.array([episode.terminated for episode in episodes]),
        "indices": np.cumsum(episodes.lengths)[:-1],
        "rews": np.concatenate([episode.rewards for episode in episodes if episode.rewards is not None]),
    } | changes


@given(episodes=sequences())
@settings(max_examples=60)
def test_round_trip_gives_equal_arrays(tmp_path_factory: pytest.TempPathFactory, episodes: EpisodeSequence) -> None:
    path = tmp_path_factory.mktemp("set") / "demonstrations.npz"
    FORMAT.write(episodes, path)
    assert FORMAT.recognises(path)
    source = FORMAT.open(path)
    assert source.lengths.tolist() == episodes.lengths.tolist()
    assert source.has_rewards == episodes.has_rewards
    same(EpisodeSequence(source), episodes)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["plain", "compressed"])
@pytest.mark.parametrize("number", [1, 3])
def test_what_the_library_saved_is_read(tmp_path: Path, save: Any, number: int) -> None:
    episodes = walk(number)
    save(tmp_path / "old.npz", **as_the_library_saved(episodes))
    same(EpisodeSequence.from_dataset(tmp_path / "old.npz"), episodes)


def test_the_library_reads_what_is_written(tmp_path: Path) -> None:
    serialize = pytest.importorskip("imitation.data.serialize")
    episodes = walk()
    FORMAT.write(episodes, tmp_path / "new.npz")
    with pytest.warns(DeprecationWarning, match="old npz version"):
        theirs = serialize.load(tmp_path / "new.npz")
    for trajectory, episode in zip(theirs, episodes, strict=True):
        np.testing.assert_array_equal(trajectory.obs, episode.observations)
        np.testing.assert_array_equal(trajectory.acts, episode.actions)
        np.testing.assert_array_equal(trajectory.rews, episode.rewards)
        assert trajectory.terminal == episode.terminated


def test_files_of_ours_are_read_in_place(tmp_path: Path) -> None:
    FORMAT.write(walk(), tmp_path / "new.npz")
    source = FORMAT.open(tmp_path / "new.npz")
    source.read(0)
    assert isinstance(source._observations, np.memmap)  # type: ignore[attr-defined]  # how it reads is the point


def test_pickled_infos_are_not_read(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    episodes = walk(1)
    infos = np.empty(episodes.n_transitions, dtype=object)
    infos[:] = Evil(trace)
    np.savez(tmp_path / "old.npz", **as_the_library_saved(episodes, infos=infos))
    assert EpisodeSequence.from_dataset(tmp_path / "old.npz")[0].infos is None
    assert not trace.exists()


@pytest.mark.parametrize("field", ["obs", "acts", "rews", "terminal", "indices"])
def test_other_pickled_arrays_are_refused(tmp_path: Path, field: str) -> None:
    trace = tmp_path / "trace"
    arrays = as_the_library_saved(walk())
    payload = np.empty(len(arrays[field]), dtype=object)
    payload[:] = Evil(trace)
    np.savez(tmp_path / "old.npz", **arrays | {field: payload})
    with pytest.raises(UnsafeArchiveError, match=f"'{field}' in .*old.npz is an array of pickled objects"):
        FORMAT.open(tmp_path / "old.npz")
    assert not trace.exists()


def test_a_pickle_is_recognised_and_refused(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    (tmp_path / "old.pkl").write_bytes(pickle.dumps([Evil(trace)]))
    with pytest.raises(UnsafeArchiveError, match="is a pickle"):
        EpisodeSequence.from_dataset(tmp_path / "old.pkl")
    assert not trace.exists()


def test_losses_are_told(tmp_path: Path) -> None:
    observations = {"state": np.zeros((5, 2))}
    with pytest.warns(LossyConversionWarning, match=r"infos are left out.*only this library reads them"):
        walk(1, infos=True, observations=observations).save(tmp_path / "new.npz", "imitation_npz")


def test_pictures_take_little_more_than_their_size(tmp_path: Path) -> None:
    episodes = pictures()
    FORMAT.write(episodes, tmp_path / "new.npz")
    assert (tmp_path / "new.npz").stat().st_size <= 1.1 * sum(episode.observations.nbytes for episode in episodes)


@pytest.mark.parametrize("part", [0.3, 0.97], ids=["in the data", "in the directory"])
def test_a_truncated_file_is_refused(tmp_path: Path, part: float) -> None:
    FORMAT.write(walk(), tmp_path / "new.npz")
    content = (tmp_path / "new.npz").read_bytes()
    (tmp_path / "new.npz").write_bytes(content[: int(len(content) * part)])
    with pytest.raises(CorruptArchiveError, match=r"new\.npz"):
        FORMAT.open(tmp_path / "new.npz")


def test_damaged_compressed_data_are_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "old.npz", **as_the_library_saved(walk(30)))
    content = bytearray((tmp_path / "old.npz").read_bytes())
    content[1000:1200] = bytes(200)
    (tmp_path / "old.npz").write_bytes(content)
    with pytest.raises(CorruptArchiveError, match=r"old\.npz"):
        FORMAT.open(tmp_path / "old.npz").read(0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"obs": np.zeros((5, 3))}, "'obs' has shape"),
        ({"rews": np.zeros(3)}, "'rews' has shape"),
        ({"terminal": np.zeros(1, bool)}, "'terminal' has shape"),
        ({"indices": np.array([0, 4])}, "empty trajectory"),
        ({"indices": np.zeros((2, 2))}, "'indices' is an array"),
    ],
    ids=["observations", "rewards", "endings", "empty", "indices"],
)
def test_arrays_that_disagree_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "old.npz", **as_the_library_saved(walk(), **changes))
    with pytest.raises(CorruptArchiveError, match=message):
        FORMAT.open(tmp_path / "old.npz")


def test_whole_rewards_become_floats(tmp_path: Path) -> None:
    episodes = walk(1)
    np.savez(tmp_path / "old.npz", **as_the_library_saved(episodes, rews=np.ones(4, np.int64)))
    assert FORMAT.open(tmp_path / "old.npz").read(0).rewards == pytest.approx(np.ones(4))


def test_text_is_no_episode(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="holds booleans"):
        FORMAT.write(walk(1, observations=np.array(["left"] * 5)), tmp_path / "new.npz")


def test_other_archives_are_not_recognised(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    (tmp_path / "text.txt").write_text("hello")
    assert not FORMAT.recognises(tmp_path / "other.npz")
    assert not FORMAT.recognises(tmp_path / "text.txt")
    assert not FORMAT.recognises(tmp_path)


def test_reading_goes_on_after_pickling_the_source(tmp_path: Path) -> None:
    episodes = walk()
    FORMAT.write(episodes, tmp_path / "new.npz")
    assert pickle.loads(pickle.dumps(FORMAT.open(tmp_path / "new.npz"))).read(1) == episodes[1]
