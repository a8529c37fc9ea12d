"""Saving replaces the old version by the new one in one step, or not at all; reading trusts nobody."""

from __future__ import annotations

import errno
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from rl_framework.checkpoints import archive
from rl_framework.checkpoints.archive import open_archive, save_archive
from rl_framework.errors import (
    ArchiveError,
    InvalidInputError,
)
from tests.checkpoints.agents import names, small_agent, steps_of

REPOSITORY = Path(__file__).parents[2]
PLACES = ["agent", "agent.zip"]


@pytest.fixture
def no_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that cannot swap two folders."""
    monkeypatch.setattr(archive, "exchange", lambda first, second: False)


def failing(error: BaseException) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        small_agent(9)(folder)
        raise error

    return write


@pytest.mark.parametrize("name", PLACES)
def test_the_new_version_replaces_the_old_one_and_leaves_nothing_else(tmp_path: Path, name: str) -> None:
    for version in (1, 2, 3):
        save_archive(tmp_path / name, small_agent(version))
        assert steps_of(tmp_path / name) == version
        assert names(tmp_path) == [name]


def test_without_swapping_the_old_one_is_replaced_too(tmp_path: Path, no_exchange: None) -> None:
    for version in (1, 2, 3):
        save_archive(tmp_path / "agent", small_agent(version))
        assert steps_of(tmp_path / "agent") == version
    assert names(tmp_path) == ["agent"]


@pytest.mark.parametrize("name", PLACES)
def test_missing_parents_are_made(tmp_path: Path, name: str) -> None:
    save_archive(str(tmp_path / "a" / "b" / name), small_agent(1))
    assert steps_of(tmp_path / "a" / "b" / name) == 1


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    save_archive(tmp_path / "agent", small_agent(1))
    assert steps_of(tmp_path / "agent") == 1


def test_a_relative_path_and_the_home_folder_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    save_archive("agent", small_agent(1))
    save_archive("~/agent", small_agent(2))
    assert (steps_of(tmp_path / "agent"), steps_of(tmp_path / "home" / "agent")) == (1, 2)
    with open_archive("~/agent") as folder:
        assert folder == tmp_path / "home" / "agent"


def test_a_link_stays_a_link_and_its_destination_is_replaced(tmp_path: Path) -> None:
    save_archive(tmp_path / "run3", small_agent(1))
    (tmp_path / "latest").symlink_to("run3")
    save_archive(tmp_path / "latest", small_agent(2))
    assert (tmp_path / "latest").is_symlink()
    assert steps_of(tmp_path / "run3") == 2


@pytest.mark.usefixtures("no_exchange")
def test_files_of_others_survive_without_swapping(tmp_path: Path) -> None:
    check_files_of_others_survive(tmp_path)


def test_files_of_others_survive(tmp_path: Path) -> None:
    check_files_of_others_survive(tmp_path)


def check_files_of_others_survive(tmp_path: Path) -> None:
    agent = tmp_path / "agent"
    save_archive(agent, small_agent(1))
    (agent / "README.md").write_text("mine")
    (agent / "videos").mkdir()
    (agent / "videos" / "replay.mp4").write_bytes(b"film")
    for version in (2, 3):
        save_archive(agent, small_agent(version))
    assert (agent / "README.md").read_text() == "mine"
    assert (agent / "videos" / "replay.mp4").read_bytes() == b"film"
    assert steps_of(agent) == 3


def test_files_of_the_old_version_do_not_survive(tmp_path: Path) -> None:
    def write_more(folder: Path) -> None:
        (folder / "replay.bin").write_bytes(b"old")
        small_agent(1)(folder)

    save_archive(tmp_path / "agent", write_more)
    save_archive(tmp_path / "agent", small_agent(2))
    assert not (tmp_path / "agent" / "replay.bin").exists()


def test_equal_agents_give_equal_zips(tmp_path: Path) -> None:
    for name in ("a.zip", "b.zip"):
        save_archive(tmp_path / name, small_agent(1, created="2030-01-01T00:00:00+00:00"))
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InvalidInputError, match="not a saved agent"):
        save_archive(tmp_path, small_agent(1))
    assert names(tmp_path) == ["thesis.txt"]


@pytest.mark.parametrize("name", PLACES)
def test_a_file_of_something_else_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("years of work")
    with pytest.raises(InvalidInputError, match="not a saved agent"):
        save_archive(tmp_path / name, small_agent(1))
    assert (tmp_path / name).read_text() == "years of work"


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as file:
        file.writestr("thesis.txt", "years of work")
    with pytest.raises(InvalidInputError, match="not a saved agent"):
        save_archive(tmp_path / "data.zip", small_agent(1))


def test_the_root_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="path of a new folder"):
        save_archive("/", small_agent(1))


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()])
def test_a_write_that_raises_leaves_the_old_version(tmp_path: Path, name: str, error: BaseException) -> None:
    save_archive(tmp_path / name, small_agent(1))
    with pytest.raises(type(error)):
        save_archive(tmp_path / name, failing(error))
    assert steps_of(tmp_path / name) == 1
    assert names(tmp_path) == [name]


def test_a_write_that_raises_leaves_no_new_parents(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"):
        save_archive(tmp_path / "a" / "b" / "agent", failing(ValueError("mine")))
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "function"),
    [("agent", "flush_tree"), ("agent", "exchange"), ("agent.zip", "pack"), ("agent.zip", "flush")],
)
def test_a_full_disk_leaves_the_old_version(
    tmp_path: Path, name: str, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_archive(tmp_path / name, small_agent(1))

    def full(*paths: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archive, function, full)
    with pytest.raises(ArchiveError, match=r"No space left.*untouched"):
        save_archive(tmp_path / name, small_agent(2))
    assert steps_of(tmp_path / name) == 1
    assert names(tmp_path) == [name]


def test_a_failing_second_rename_puts_the_old_version_back(
    tmp_path: Path, no_exchange: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_archive(tmp_path / "agent", small_agent(1))
    rename = Path.rename

    def refuse_content(self: Path, target: Path) -> Path:
        if self.name == "content":
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_content)
    with pytest.raises(ArchiveError, match="Input/output error"):
        save_archive(tmp_path / "agent", small_agent(2))
    assert steps_of(tmp_path / "agent") == 1
    assert names(tmp_path) == ["agent"]


def test_a_parent_that_is_a_file_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArchiveError, match="Cannot save to"):
        save_archive(tmp_path / "file" / "agent", small_agent(1))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_parent_without_permission_is_an_error_of_ours(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ArchiveError, match="Cannot save to"):
            save_archive(tmp_path / "agent", small_agent(1))
    finally:
        tmp_path.chmod(0o700)
