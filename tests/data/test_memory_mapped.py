"""Our own layout: the same numbers back, without copying; what is damaged, newer or unsafe is refused by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_framework.core.trees import leaves, map_tree
from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.data.formats.memory_mapped import FORMAT
from rl_framework.data.formats.memory_mapped_writer import MemoryMappedWriter
from rl_framework.errors import (
    ArchiveError,
    CorruptArchiveError,
    InvalidInputError,
    LossyConversionWarning,
    MissingArchiveError,
    NewerFormatError,
    UnknownOptionError,
    UnsafeArchiveError,
)
from tests.data.episode_strategies import episodes_of, first_numbers, numbered

SPACES = {
    "observation_space": spaces.Box(-np.inf, np.inf, (1,), np.float32),
    "action_space": spaces.Discrete(2, start=-1),
    "metadata": {"environment_id": "E-v0", "bounds": [1.5, float("inf")], "note": "ä"},
}


def some(count: int = 4, **changes: Any) -> EpisodeSequence:
    episodes = [numbered(1 + index, 10 * index, terminated=index % 2 == 0, **changes) for index in range(count)]
    return EpisodeSequence.from_episodes(episodes, **SPACES)  # type: ignore[arg-type]  # one dict for all three


def with_infos() -> EpisodeSequence:
    return some().map(lambda one: replace(one, infos=tuple({"step": step} for step in range(len(one)))))


def edit_table(folder: Path, **changes: Any) -> None:
    table = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(table | changes))


@settings(max_examples=60)
@given(episodes=st.integers(1, 3).flatmap(episodes_of))
def test_a_round_trip_gives_equal_episodes(episodes: list[Episode]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = EpisodeSequence.from_episodes(episodes).save(Path(folder, "data"))
        opened = EpisodeSequence.from_dataset(path)
        assert list(opened) == episodes
        assert opened.lengths.tolist() == [len(episode) for episode in episodes]
        assert opened.has_rewards is (episodes[0].rewards is not None)
        assert [type(episode.terminated) for episode in opened] == [bool] * len(episodes)


def test_spaces_and_metadata_come_back(tmp_path: Path) -> None:
    opened = EpisodeSequence.from_dataset(some().save(tmp_path / "data"))
    assert opened.observation_space == SPACES["observation_space"]
    assert opened.action_space == SPACES["action_space"]
    assert opened.metadata == SPACES["metadata"]


def test_nothing_is_copied_and_nothing_can_be_changed(tmp_path: Path) -> None:
    opened = EpisodeSequence.from_dataset(some().save(tmp_path / "data"))
    first, again = opened[2], opened[2]
    for name in ("observations", "actions", "rewards"):
        assert np.shares_memory(getattr(first, name), getattr(again, name))
        assert type(getattr(first, name)) is np.ndarray
        with pytest.raises(ValueError, match="read-only"):
            getattr(first, name)[0] = 1


def test_every_file_is_an_ordinary_numpy_file(tmp_path: Path) -> None:
    nest = {"a": np.zeros((3, 2), np.uint8), "b": (np.ones(3), np.ones(3, ">i2"))}
    episodes = [numbered(2, observations=nest), numbered(2, observations=nest)]
    path = EpisodeSequence.from_episodes(episodes).save(tmp_path / "data")
    arrays = {file.name: np.load(file, mmap_mode="r", allow_pickle=False) for file in path.glob("*.npy")}
    assert {name: (array.shape, array.dtype.str) for name, array in arrays.items()} == {
        "observations-0.npy": ((6, 2), "|u1"),
        "observations-1.npy": ((6,), "<f8"),
        "observations-2.npy": ((6,), ">i2"),
        "actions.npy": ((4,), "<i8"),
        "rewards.npy": ((4,), "<f8"),
        "lengths.npy": ((2,), "<i8"),
        "terminated.npy": ((2,), "|b1"),
    }


def test_images_take_little_more_than_their_numbers(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (21, 64, 64, 3), dtype=np.uint8)
    episodes = [numbered(20, observations=images) for _ in range(5)]
    path = EpisodeSequence.from_episodes(episodes).save(tmp_path / "data")
    on_disk = sum(file.stat().st_size for file in path.iterdir())
    assert on_disk < 1.02 * 5 * images.nbytes


def test_parts_may_come_in_any_order(tmp_path: Path) -> None:
    first = numbered(1, observations={"a": np.zeros(2), "b": np.ones(2)})
    second = numbered(1, observations={"b": np.full(2, 3.0), "a": np.full(2, 2.0)})
    opened = EpisodeSequence.from_dataset(EpisodeSequence.from_episodes([first, second]).save(tmp_path / "data"))
    assert opened[1].observations["a"].tolist() == [2.0, 2.0]
    assert opened[1].observations["b"].tolist() == [3.0, 3.0]


def test_infos_are_read_when_they_are_looked_at(tmp_path: Path) -> None:
    path = with_infos().save(tmp_path / "data")
    whole = list(EpisodeSequence.from_dataset(path))
    size = (path / "infos.jsonl").stat().st_size
    (path / "infos.jsonl").write_bytes(b"\xff" * size)
    episode = EpisodeSequence.from_dataset(path)[2]
    assert np.array_equal(episode.observations, whole[2].observations)
    assert episode.infos is not None
    assert len(episode.infos) == 3
    with pytest.raises(CorruptArchiveError, match="infos is damaged"):
        _ = episode.infos[0]


def test_a_slice_of_an_episode_keeps_its_infos(tmp_path: Path) -> None:
    opened = EpisodeSequence.from_dataset(with_infos().save(tmp_path / "data"))
    assert opened[3][1:3].infos == ({"step": 1}, {"step": 2})
    assert opened[3].infos == ({"step": 0}, {"step": 1}, {"step": 2}, {"step": 3})
    assert opened[3] == with_infos()[3]


class Remark:
    """Something that no file holds."""


def test_infos_that_cannot_be_stored_are_left_out_and_told_once(tmp_path: Path) -> None:
    infos = (
        {"array": np.arange(3, dtype=np.float32), "pair": (1, 2.5), "np": np.float32(0.1), "nan": float("nan")},
        {"remark": Remark(), "objects": np.array([None]), "kept": 1},
    )
    sequence = EpisodeSequence.from_episodes([numbered(2, infos=infos)] * 3)
    with pytest.warns(LossyConversionWarning, match=r"'objects' \(numpy.ndarray\), 'remark' \(.*Remark\)") as told:
        path = sequence.save(tmp_path / "data")
    assert len(told) == 1
    expected = numbered(2, infos=(infos[0], {"kept": 1}))
    assert list(EpisodeSequence.from_dataset(path)) == [expected] * 3


def test_what_looks_like_jsonpickle_stays_data(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    payload = {"py/reduce": [{"py/function": "os.system"}, {"py/tuple": [f"touch {marker}"]}]}
    sequence = EpisodeSequence.from_episodes([numbered(1, infos=(payload,))])
    (episode,) = EpisodeSequence.from_dataset(sequence.save(tmp_path / "data"))
    assert episode.infos == (payload,)
    assert not marker.exists()


def test_a_pickle_in_place_of_an_array_is_not_opened(tmp_path: Path) -> None:
    path = some().save(tmp_path / "data")
    np.save(path / "rewards.npy", np.array([Remark()] * 10), allow_pickle=True)
    with pytest.raises(CorruptArchiveError, match=r"rewards\.npy is damaged"):
        EpisodeSequence.from_dataset(path)


@pytest.mark.parametrize(
    "name",
    ["observations.npy", "actions.npy", "rewards.npy", "lengths.npy", "terminated.npy", "infos.jsonl", "info_ends.npy"],
)
@pytest.mark.parametrize("damage", ["shorter", "longer", "missing", "empty"])
def test_a_file_of_another_size_is_named(tmp_path: Path, name: str, damage: str) -> None:
    file = with_infos().save(tmp_path / "data") / name
    if damage == "missing":
        file.unlink()
    else:
        size = file.stat().st_size
        os.truncate(file, {"shorter": size - 1, "longer": size + 1, "empty": 0}[damage])
    with pytest.raises(CorruptArchiveError, match=name):
        EpisodeSequence.from_dataset(tmp_path / "data")


@pytest.mark.parametrize("keep", [0.3, 0.9], ids=["third", "most"])
def test_a_truncated_table_is_damage(tmp_path: Path, keep: float) -> None:
    table = some().save(tmp_path / "data") / "dataset.json"
    os.truncate(table, int(table.stat().st_size * keep))
    with pytest.raises(CorruptArchiveError, match=r"dataset\.json is damaged"):
        EpisodeSequence.from_dataset(tmp_path / "data")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_transitions": 11}, "add up to 10 steps, the table lists 11"),
        ({"n_episodes": 3}, "lengths"),
        ({"n_episodes": "many"}, "dataset.json is damaged"),
        ({"version": "1"}, "dataset.json is damaged"),
        ({"observations": {"file": "observations.npy", "dtype": "|O", "shape": []}}, "no type of stored numbers"),
        ({"observations": {"file": "observations.npy", "dtype": "<f8", "shape": [1]}}, "header does not announce"),
        ({"observations": {"file": "observations.npy", "dtype": "<f4", "shape": [-1]}}, "shape"),
        ({"observations": {"dict": 3}}, "dataset.json is damaged"),
        ({"action_space": {"type": "Nothing"}}, "description of a space"),
        ({"metadata": 3}, "dataset.json is damaged"),
    ],
    ids=["steps", "count", "text", "version", "objects", "type", "shape", "tree", "space", "metadata"],
)
def test_a_table_that_contradicts_its_files_is_damage(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    edit_table(some().save(tmp_path / "data"), **changes)
    with pytest.raises(CorruptArchiveError, match=message):
        EpisodeSequence.from_dataset(tmp_path / "data")


def test_lengths_that_cannot_be_are_damage(tmp_path: Path) -> None:
    path = some(2).save(tmp_path / "data")
    lengths = np.load(path / "lengths.npy", mmap_mode="r+")
    lengths[:] = (4, -1)
    lengths.flush()
    with pytest.raises(CorruptArchiveError, match="at least 1"):
        EpisodeSequence.from_dataset(path)


def test_a_newer_version_is_told_apart_from_damage(tmp_path: Path) -> None:
    edit_table(some().save(tmp_path / "data"), version=2, novelty=True)
    with pytest.raises(NewerFormatError, match="version 2 of its format, this library reads up to 1"):
        EpisodeSequence.from_dataset(tmp_path / "data")


def test_a_table_that_names_files_elsewhere_is_unsafe(tmp_path: Path) -> None:
    edit_table(some().save(tmp_path / "data"), rewards={"file": "../rewards.npy", "dtype": "<f8", "shape": []})
    with pytest.raises(UnsafeArchiveError, match="outside"):
        EpisodeSequence.from_dataset(tmp_path / "data")


def test_what_is_not_there_is_missing_and_neighbours_are_named(tmp_path: Path) -> None:
    some().save(tmp_path / "demonstrations")
    with pytest.raises(MissingArchiveError, match=r"No data set at .*Did you mean .*demonstrations"):
        EpisodeSequence.from_dataset(tmp_path / "demonstration")


@pytest.mark.parametrize("uri", ["rl_framework://{}", "{}"], ids=["scheme", "path"])
def test_a_scheme_names_the_format(tmp_path: Path, uri: str) -> None:
    place = uri.format(tmp_path / "data")
    assert some().save(place) == tmp_path / "data"
    assert len(EpisodeSequence.from_dataset(place)) == 4
    assert FORMAT.recognises(tmp_path / "data")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: EpisodeSequence.from_dataset("rlframework://data"), "Did you mean 'rl_framework'"),
        (lambda: some().save("data", format="rl_frame"), "Did you mean 'rl_framework'"),
    ],
    ids=["open", "save"],
)
def test_an_unknown_format_is_named_with_the_known_ones(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(UnknownOptionError, match=message):
        call()


def test_a_scheme_that_contradicts_the_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="'rl_framework', the argument 'd4rl'"):
        some().save(f"rl_framework://{tmp_path}/data", format="d4rl")


def test_an_empty_sequence_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="sequence is empty"):
        some()[:0].save(tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


def test_saving_onto_the_path_that_is_read(tmp_path: Path) -> None:
    path = some().save(tmp_path / "data")
    opened = EpisodeSequence.from_dataset(path)
    opened[::-1][:2].save(path)
    assert first_numbers(EpisodeSequence.from_dataset(path)) == [30, 20]
    assert first_numbers(opened) == [0, 10, 20, 30]


def breaking(episode: Episode) -> Episode:
    if episode.observations[0, 0] > 0:
        raise RuntimeError("mine")
    return episode


def full_disk(*arguments: Any) -> None:
    raise OSError(28, "No space left on device")


def test_a_save_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = some().save(tmp_path / "data")
    with pytest.raises(RuntimeError, match="mine"):
        some().map(breaking).save(path)
    monkeypatch.setattr("rl_framework.data.npy_files.NpyStream.append", full_disk)
    with pytest.raises(ArchiveError, match=r"No space left.*untouched"):
        some(2).save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["data"]
    assert len(EpisodeSequence.from_dataset(path)) == 4


DYING = """
import os, sys
from rl_framework.data.episode_sequence import EpisodeSequence

opened = EpisodeSequence.from_dataset(sys.argv[1])
opened.map(lambda episode: episode if episode.observations[0, 0] < 20 else os._exit(9)).save(sys.argv[1])
"""


def test_a_process_that_dies_while_it_saves_leaves_the_old_one(tmp_path: Path) -> None:
    path = some().save(tmp_path / "data")
    died = subprocess.run([sys.executable, "-c", DYING, str(path)], check=False)
    assert died.returncode == 9
    assert list(EpisodeSequence.from_dataset(path)) == list(some())
    assert len(list(tmp_path.iterdir())) == 2
    some(2).save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["data"]


def test_who_opens_while_another_saves_sees_one_version(tmp_path: Path) -> None:
    path = some(2).save(tmp_path / "data")

    def save_again() -> None:
        for count in (5, 3) * 6:
            some(count).save(path)

    writer = threading.Thread(target=save_again)
    writer.start()
    seen = set()
    while writer.is_alive():
        seen.add(tuple(first_numbers(EpisodeSequence.from_dataset(path))))
    writer.join()
    assert seen <= {(0, 10), (0, 10, 20), (0, 10, 20, 30, 40)}
    assert len(seen) > 1


def test_files_that_others_put_there_are_kept_and_old_data_are_not(tmp_path: Path) -> None:
    path = with_infos().save(tmp_path / "data")
    (path / "README.md").write_text("mine")
    (path / "notes.json").write_text("{}")
    some().save(path)
    assert (path / "README.md").read_text() == "mine"
    assert (path / "notes.json").exists()
    assert not (path / "infos.jsonl").exists()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_something_else_is_not_replaced(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "data"
    thesis = place if kind == "file" else place / "thesis.txt"
    thesis.parent.mkdir(exist_ok=True)
    thesis.write_text("years of work")
    with pytest.raises(InvalidInputError, match="is no data set, so it is not replaced"):
        some().save(place)
    assert thesis.read_text() == "years of work"


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert len(EpisodeSequence.from_dataset(some().save(tmp_path / "data"))) == 4


@pytest.mark.parametrize(
    ("observations", "message"),
    [
        (np.zeros(4, [("x", float)]), "observations is an array of"),
        ({1: np.zeros(4)}, "got the key 1"),
    ],
    ids=["records", "key"],
)
def test_arrays_that_have_no_place_are_named(tmp_path: Path, observations: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        EpisodeSequence.from_episodes([numbered(3, observations=observations)]).save(tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


def test_metadata_that_json_cannot_say_are_named(tmp_path: Path) -> None:
    sequence = EpisodeSequence.from_episodes([numbered()], metadata={"env": Remark()})
    with pytest.raises(InvalidInputError, match=r"metadata.*'env'"):
        sequence.save(tmp_path / "data")


def test_a_space_that_has_no_description_is_left_out_and_told(tmp_path: Path) -> None:
    sequence = EpisodeSequence.from_episodes([numbered()], observation_space=spaces.Text(5))
    with pytest.warns(LossyConversionWarning, match="observation space.* is not stored"):
        sequence.save(tmp_path / "data")
    assert EpisodeSequence.from_dataset(tmp_path / "data").observation_space is None


def interrupted(folder: Path, episodes: Iterator[Episode], published: int) -> MemoryMappedWriter:
    """A writer that died after some episodes, of which only the first were published."""
    folder.mkdir()
    writer = MemoryMappedWriter(folder)
    for number, episode in enumerate(episodes):
        writer.append(episode)
        if number + 1 == published:
            writer.publish()
    return writer


def test_an_unfinished_data_set_holds_what_was_published(tmp_path: Path) -> None:
    writer = interrupted(tmp_path / "data", iter(with_infos()), published=3)
    opened = EpisodeSequence.from_dataset(tmp_path / "data")
    assert list(opened) == list(with_infos()[:3])
    writer.abandon()
    assert list(opened) == list(with_infos()[:3])


@pytest.mark.parametrize("name", ["rewards.npy", "observations.npy", "infos.jsonl"])
def test_an_unfinished_data_set_that_lost_a_file_is_damage(tmp_path: Path, name: str) -> None:
    interrupted(tmp_path / "data", iter(with_infos()), published=4).abandon()
    os.truncate(tmp_path / "data" / name, (tmp_path / "data" / name).stat().st_size - 1)
    with pytest.raises(CorruptArchiveError, match=name):
        EpisodeSequence.from_dataset(tmp_path / "data")


def test_an_unfinished_data_set_without_episodes_says_so(tmp_path: Path) -> None:
    writer = interrupted(tmp_path / "data", iter(some(1)), published=0)
    with pytest.raises(InvalidInputError, match="never finished and holds no whole episode"):
        EpisodeSequence.from_dataset(tmp_path / "data")
    writer.abandon()


def test_many_episodes_open_without_being_read(tmp_path: Path) -> None:
    episodes = (numbered(50, number) for number in range(500))
    path = tmp_path / "data"
    EpisodeSequence.from_episode_generator(episodes, path=path)
    opened = EpisodeSequence.from_dataset(path)
    assert opened.n_transitions == 25_000
    flat = leaves(map_tree(np.asarray, opened.source.flat_observations))  # type: ignore[attr-defined]  # its own layout
    assert flat[0].shape == (25_500, 1)
    assert first_numbers(opened[::100]) == [0, 100, 200, 300, 400]
