"""Each form of storage knows its own by content, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.data.formats.registry import FORMATS, format_named
from tests.data.formats.episodes import same, walk

FILES = {"imitation_npz": "set.npz", "d4rl": "set.hdf5"}
WRITTEN = [name for name in FORMATS if name != "unity"]  # Unity's own recorder alone writes that one.


@pytest.mark.filterwarnings("ignore::rl_framework.errors.LossyConversionWarning")
@pytest.mark.parametrize("name", WRITTEN)
def test_a_data_set_is_found_by_content_and_by_scheme(tmp_path: Path, name: str) -> None:
    episodes = walk()
    path = episodes.save(tmp_path / FILES.get(name, "set"), name)
    assert [each for each in FORMATS if format_named(each).recognises(path)] == [name]
    same(EpisodeSequence.from_dataset(path), episodes)
    same(EpisodeSequence.from_dataset(f"{name}://{path}"), episodes)


@pytest.mark.filterwarnings("ignore::rl_framework.errors.LossyConversionWarning")
@pytest.mark.parametrize("name", WRITTEN)
def test_saving_again_replaces_the_data_set(tmp_path: Path, name: str) -> None:
    path = tmp_path / FILES.get(name, "set")
    walk(4).save(path, name)
    EpisodeSequence.from_dataset(path)[:2].save(path, name)
    same(EpisodeSequence.from_dataset(path), walk(2))


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_else_is_recognised(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "zeros").write_bytes(bytes(1000))
    (tmp_path / "text.json").write_text("[" * 100_000)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    form = format_named(name)
    for place in ("empty", "zeros", "text.json", "loop", "not there", "zeros/inside"):
        assert not form.recognises(tmp_path / place), place


@pytest.mark.parametrize("name", FORMATS)
def test_broken_tables_are_not_recognised(tmp_path: Path, name: str) -> None:
    places = (
        "state.json",
        "dataset_info.json",
        "metadata.json",
        "data/metadata.json",
        "meta/info.json",
        "dataset.json",
    )
    for place in places:
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(b'\xff{"broken": ')
    assert not format_named(name).recognises(tmp_path)
