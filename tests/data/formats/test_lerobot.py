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
from pyarrow import parquet

from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.data.formats import lerobot_writer
from rl_framework.data.formats.lerobot import FORMAT
from rl_framework.errors import (
    CorruptArchiveError,
    InvalidInputError,
    LossyConversionWarning,
    MissingExtraError,
    UnsafeArchiveError,
)
from tests.data.formats.episodes import pictures, same, sequences, walk

DATA_FILE = "data/chunk-000/file-000.parquet"
NO_LAST = pytest.mark.filterwarnings("ignore:.*no observation behind the last action")


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


def test_the_tables_are_those_of_lerobot(tmp_path: Path) -> None:
    FORMAT.write(EpisodeSequence.from_episodes(walk(), metadata={"fps": 20, "task": "walk"}), tmp_path)
    info = json.loads((tmp_path / "meta" / "info.json").read_text())
    assert info["codebase_version"] == "v3.0"
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"], info["fps"]) == (3, 15, 1, 20)
    assert info["features"]["observation.state"] == {"dtype": "float32", "shape": [3], "names": None}
    assert info["features"]["action"] == {"dtype": "int64", "shape": [1], "names": None}
    rows = parquet.read_table(tmp_path / DATA_FILE).to_pydict()
    assert set(rows) == set(info["features"])
    assert rows["episode_index"] == [0] * 4 + [1] * 5 + [2] * 6
    assert rows["frame_index"] == [*range(4), *range(5), *range(6)]
    assert rows["index"] == list(range(15))
    assert rows["timestamp"][:4] == pytest.approx([0, 0.05, 0.1, 0.15])
    assert np.flatnonzero(rows["next.done"]).tolist() == [3, 8, 14]
    table = parquet.read_table(tmp_path / "meta/episodes/chunk-000/file-000.parquet").to_pydict()
    assert table["dataset_from_index"] == [0, 4, 9]
    assert table["dataset_to_index"] == [4, 9, 15]
    assert table["length"] == [4, 5, 6]
    assert table["tasks"] == [["walk"]] * 3


def test_the_statistics_are_right(tmp_path: Path) -> None:
    episodes = walk(20)
    FORMAT.write(episodes, tmp_path)
    found = json.loads((tmp_path / "meta" / "stats.json").read_text())
    states = np.concatenate([episode.observations[:-1] for episode in episodes]).astype(np.float64)
    for name in ("min", "max", "mean", "std"):
        np.testing.assert_allclose(found["observation.state"][name], getattr(np, name)(states, axis=0))
    assert found["action"]["count"] == [len(states)]
    assert np.shape(found["action"]["mean"]) == (1,)


def test_statistics_of_several_pieces_are_those_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lerobot_writer, "GROUP_BYTES", 100)
    test_the_statistics_are_right(tmp_path)


def test_pictures_have_statistics_per_channel(tmp_path: Path) -> None:
    episodes = pictures(2, length=3)
    FORMAT.write(episodes, tmp_path)
    found = json.loads((tmp_path / "meta" / "stats.json").read_text())["observation.image"]
    values = np.concatenate([episode.observations[:-1] for episode in episodes]) / 255
    np.testing.assert_allclose(np.asarray(found["mean"]).ravel(), values.mean((0, 1, 2)))
    assert np.shape(found["std"]) == (3, 1, 1)


def test_the_datasets_library_reads_the_columns_as_lerobot_declares_them(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    observations: dict[str, np.ndarray] = {
        "state": np.arange(15, dtype=np.float32).reshape(5, 3),
        "grid": np.arange(30, dtype=np.int64).reshape(5, 2, 3),
        "stack": np.zeros((5, 4, 5, 6), np.uint8),
        "image": np.arange(5 * 60, dtype=np.uint8).reshape(5, 4, 5, 3),
        "scalar": np.arange(5.0),
    }
    FORMAT.write(walk(1, observations=observations, actions=np.ones((4, 2))), tmp_path / "set")
    info = json.loads((tmp_path / "set" / "meta" / "info.json").read_text())
    features = {name: as_lerobot_reads(datasets, feature) for name, feature in info["features"].items()}
    file = str(tmp_path / "set" / DATA_FILE)
    found = datasets.Dataset.from_parquet(
        file, features=datasets.Features(features), cache_dir=str(tmp_path / "cache"), keep_in_memory=True
    )
    assert len(found) == 4
    row = found[2]
    for name in ("state", "grid", "stack", "image", "scalar"):
        np.testing.assert_array_equal(np.asarray(row[f"observation.{name}"]), observations[name][2])
    assert row["action"] == [1.0, 1.0]


def as_lerobot_reads(datasets: Any, feature: dict[str, Any]) -> Any:
    """The type of column that LeRobot expects for a feature."""
    shape, dtype = tuple(feature["shape"]), feature["dtype"]
    if dtype == "image":
        return datasets.Image()
    if shape == (1,):
        return datasets.Value(dtype=dtype)
    if len(shape) == 1:
        return datasets.Sequence(length=shape[0], feature=datasets.Value(dtype=dtype))
    return {2: datasets.Array2D, 3: datasets.Array3D}[len(shape)](shape=shape, dtype=dtype)


def test_pandas_finds_the_tasks_as_the_index(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    FORMAT.write(EpisodeSequence.from_episodes(walk(), metadata={"task": "walk"}), tmp_path)
    tasks = pandas.read_parquet(tmp_path / "meta" / "tasks.parquet")
    assert tasks.index.tolist() == ["walk"]
    assert tasks.loc["walk"].task_index == 0


def test_what_is_lost_is_told(tmp_path: Path) -> None:
    with pytest.warns(LossyConversionWarning, match=r"no observation behind.*no difference.*frames per second.*infos"):
        walk(infos=True).save(tmp_path / "set", "lerobot")


def by_other_software(path: Path, episodes: EpisodeSequence) -> Path:
    """A data set without this library's notes."""
    FORMAT.write(episodes, path)
    for file in (path / "meta" / "rl_framework").iterdir():
        file.unlink()
    return path


def test_without_last_observations_the_last_actions_are_left_out(tmp_path: Path) -> None:
    episodes = walk()
    path = by_other_software(tmp_path / "set", episodes)
    with pytest.warns(LossyConversionWarning, match="last action of each of 3 episodes is left out"):
        found = EpisodeSequence.from_dataset(path)
    assert found.lengths.tolist() == [3, 4, 5]
    for ours, theirs in zip(found, episodes, strict=True):
        assert not ours.terminated
        np.testing.assert_array_equal(ours.observations, theirs.observations[:-1])
        np.testing.assert_array_equal(ours.actions[:, 0], theirs.actions[:-1])
        np.testing.assert_array_equal(np.asarray(ours.rewards), np.asarray(theirs.rewards)[:-1])
    assert found[0].observations.dtype == np.float32
    assert found.metadata == {"fps": 30}


@NO_LAST
def test_episodes_of_one_frame_are_left_out(tmp_path: Path) -> None:
    path = by_other_software(tmp_path / "set", walk(3, length=1))
    with pytest.warns(LossyConversionWarning, match="1 episodes have no other action"):
        found = EpisodeSequence.from_dataset(path)
    assert found.lengths.tolist() == [1, 2]


@NO_LAST
def test_a_data_set_of_one_frame_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="holds no episodes"):
        FORMAT.open(by_other_software(tmp_path / "set", walk(1, length=1)))


@NO_LAST
def test_several_observations_are_a_dict(tmp_path: Path) -> None:
    observations: dict[str, np.ndarray] = {"state": np.zeros((5, 2)), "image": np.full((5, 4, 6, 3), 7, np.uint8)}
    path = by_other_software(tmp_path / "set", walk(1, observations=observations))
    found = EpisodeSequence.from_dataset(path)[0]
    assert list(found.observations) == ["state", "image"]
    np.testing.assert_array_equal(found.observations["image"], observations["image"][:-1])


@NO_LAST
def test_notes_are_ignored_once_the_data_set_was_changed(tmp_path: Path) -> None:
    FORMAT.write(walk(), tmp_path)
    place = tmp_path / "meta/rl_framework/notes.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | {"n_episodes": 2}))
    assert FORMAT.open(tmp_path).lengths.tolist() == [3, 4, 5]


def test_many_files_and_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lerobot_writer, "GROUP_BYTES", 300)
    monkeypatch.setattr(lerobot_writer, "FILE_MEGABYTES", 1e-3)
    monkeypatch.setattr(lerobot_writer, "FILES_PER_CHUNK", 2)
    episodes = walk(30)
    FORMAT.write(episodes, tmp_path)
    assert len(list((tmp_path / "data").glob("chunk-*/file-*.parquet"))) > 4
    source = FORMAT.open(tmp_path)
    same(EpisodeSequence(source), episodes)
    for index in np.random.default_rng(0).permutation(30).tolist():
        assert source.read(index) == episodes[index]


@pytest.mark.parametrize("shape", [(32, 32, 3), (4, 32, 32)], ids=["png", "lists"])
def test_pictures_take_little_more_than_their_size(tmp_path: Path, shape: tuple[int, ...]) -> None:
    episodes = pictures(4, length=100, shape=shape)
    FORMAT.write(episodes, tmp_path)
    size = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    assert size <= 1.1 * sum(episode.observations.nbytes for episode in episodes)
    same(EpisodeSequence(FORMAT.open(tmp_path)), episodes)


def test_large_arrays_have_no_statistics(tmp_path: Path) -> None:
    FORMAT.write(pictures(1, length=2, shape=(4, 32, 32)), tmp_path)
    assert list(json.loads((tmp_path / "meta" / "stats.json").read_text())) == ["action", "next.reward"]


def test_videos_are_refused_with_their_names(tmp_path: Path) -> None:
    path = by_other_software(tmp_path / "set", walk())
    change_info(path, features={"observation.images.top": {"dtype": "video", "shape": [4, 4, 3]}})
    with pytest.raises(InvalidInputError, match=r"'observation\.images\.top' as videos"):
        FORMAT.open(path)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"codebase_version": "v2.1"}, InvalidInputError, "version v2.1; version 3 is read"),
        ({"total_episodes": None}, CorruptArchiveError, "how many episodes"),
        ({"total_episodes": 0}, InvalidInputError, "holds no episodes"),
        ({"total_episodes": 4}, CorruptArchiveError, "3 episodes, expected 4"),
        ({"features": {"action": {"dtype": "int64", "shape": [1]}}}, InvalidInputError, "no column 'observation'"),
        ({"features": {"action": 3}}, CorruptArchiveError, "in its features"),
    ],
    ids=["version", "no count", "empty", "count", "no observation", "features"],
)
def test_tables_that_are_wrong_are_refused(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    path = by_other_software(tmp_path / "set", walk())
    change_info(path, **changes)
    with pytest.raises(error, match=message):
        FORMAT.open(path)


@pytest.mark.parametrize(
    ("pattern", "error"),
    [("../../secret-{file_index}.parquet", UnsafeArchiveError), ("{nothing}.parquet", CorruptArchiveError)],
    ids=["outside", "broken"],
)
def test_paths_that_are_none_are_refused(tmp_path: Path, pattern: str, error: type[Exception]) -> None:
    FORMAT.write(walk(), tmp_path)
    change_info(tmp_path, data_path=pattern)
    source = FORMAT.open(tmp_path)
    with pytest.raises(error, match=r"info\.json"):
        source.read(0)


@pytest.mark.parametrize("name", [DATA_FILE, "meta/episodes/chunk-000/file-000.parquet"], ids=["data", "episodes"])
@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_damaged_files_are_refused(tmp_path: Path, name: str, damage: str) -> None:
    FORMAT.write(walk(), tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).unlink()
    if damage == "truncated":
        (tmp_path / name).write_bytes(content[:-50])
    with pytest.raises(CorruptArchiveError, match=r"file-000\.parquet|table of episodes|meta/episodes"):
        FORMAT.open(tmp_path).read(0)


def test_rows_of_another_episode_are_noticed(tmp_path: Path) -> None:
    FORMAT.write(walk(), tmp_path)
    rows = parquet.read_table(tmp_path / DATA_FILE)
    parquet.write_table(pa.concat_tables([rows.slice(4), rows.slice(0, 4)]), tmp_path / DATA_FILE)
    with pytest.raises(CorruptArchiveError, match="rows of episode 0 are not where they should be"):
        FORMAT.open(tmp_path).read(0)


def test_missing_rows_and_columns_are_noticed(tmp_path: Path) -> None:
    FORMAT.write(walk(), tmp_path)
    rows = parquet.read_table(tmp_path / DATA_FILE)
    parquet.write_table(rows.slice(0, 10), tmp_path / DATA_FILE)
    with pytest.raises(CorruptArchiveError, match="has 10 rows; rows 9 to 15 are missing"):
        FORMAT.open(tmp_path).read(2)
    parquet.write_table(rows.drop_columns(["action"]), tmp_path / DATA_FILE)
    with pytest.raises(CorruptArchiveError, match="has no column 'action'"):
        FORMAT.open(tmp_path).read(0)


def test_names_that_are_taken_are_refused(tmp_path: Path) -> None:
    observations = {"a": {"b": np.zeros(5)}, "a.b": np.zeros(5)}
    episodes = walk(1, observations=observations)
    with pytest.raises(InvalidInputError, match=r"'observation\.a\.b'"):
        FORMAT.write(episodes, tmp_path / "set")


def test_too_many_axes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="up to 5 axes"):
        FORMAT.write(walk(1, observations=np.zeros((5, 1, 1, 1, 1, 1, 1))), tmp_path / "set")


def test_a_source_can_be_pickled(tmp_path: Path) -> None:
    episodes = walk()
    FORMAT.write(episodes, tmp_path)
    assert pickle.loads(pickle.dumps(FORMAT.open(tmp_path))).read(1) == episodes[1]


@pytest.mark.parametrize("package", ["pyarrow", "PIL"])
def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    FORMAT.write(pictures(1, length=2), tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    assert FORMAT.recognises(tmp_path)
    with pytest.raises(MissingExtraError, match=r"rl_framework\[datasets\]"):
        FORMAT.open(tmp_path).read(0)


def test_other_folders_are_not_recognised(tmp_path: Path) -> None:
    (tmp_path / "meta").mkdir()
    assert not FORMAT.recognises(tmp_path)
    (tmp_path / "meta" / "info.json").write_text('{"codebase_version": 3}')
    assert not FORMAT.recognises(tmp_path)
    assert not FORMAT.recognises(tmp_path / "nothing")


def change_info(path: Path, **changes: Any) -> None:
    info = json.loads((path / "meta" / "info.json").read_text())
    (path / "meta" / "info.json").write_text(json.dumps(info | changes))
