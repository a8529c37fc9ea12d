"""Crashes and neighbours: killed, read and written at the same time, the old or the new version is there."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rl_framework.checkpoints import file_system
from rl_framework.checkpoints.archive import save_archive
from rl_framework.checkpoints.file_system import FolderLock, exchange
from rl_framework.errors import (
    ArchiveError,
)
from tests.checkpoints.agents import names, small_agent, steps_of

REPOSITORY = Path(__file__).parents[2]
PLACES = ["agent", "agent.zip"]


@pytest.mark.parametrize(("name", "way"), [("agent", "swap"), ("agent.zip", "swap"), ("agent", "aside")])
def test_killed_at_any_moment_the_old_or_the_new_version_loads(tmp_path: Path, name: str, way: str) -> None:
    script = REPOSITORY / "tests" / "checkpoints" / "kill_saves.py"
    run = subprocess.run(
        [sys.executable, str(script), str(tmp_path / name), "40", way],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "src"), str(REPOSITORY)])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 10, "too few kills fell into a save to prove anything"


def test_leftovers_of_the_dead_are_removed_and_those_of_the_living_stay(tmp_path: Path) -> None:
    for name in (".agent.saving-dead", ".agent.saving-alive", ".other.saving-dead"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part").write_text("half")
    alive = FolderLock(tmp_path / ".agent.saving-alive")
    assert alive.acquire()
    save_archive(tmp_path / "agent", small_agent(1))
    assert names(tmp_path) == [".agent.saving-alive", ".other.saving-dead", "agent"]
    alive.release()
    save_archive(tmp_path / "agent", small_agent(2))
    assert names(tmp_path) == [".other.saving-dead", "agent"]


def test_a_version_set_aside_by_a_crash_is_read_and_then_replaced(tmp_path: Path) -> None:
    save_archive(tmp_path / "agent", small_agent(1))
    (tmp_path / "agent").rename(tmp_path / ".agent.previous")
    assert steps_of(tmp_path / "agent") == 1
    save_archive(tmp_path / "agent", small_agent(2))
    assert steps_of(tmp_path / "agent") == 2
    assert names(tmp_path) == ["agent"]


@pytest.mark.parametrize("name", PLACES)
def test_readers_beside_a_writer_always_see_a_whole_version(tmp_path: Path, name: str) -> None:
    save_archive(tmp_path / name, small_agent(0))
    done = threading.Event()
    seen: list[int] = []
    failures: list[Exception] = []

    def read_once() -> None:
        try:
            seen.append(steps_of(tmp_path / name))
        except (ArchiveError, AssertionError) as error:
            failures.append(error)

    def read_on() -> None:
        while not done.wait(0.002):
            read_once()

    readers = [threading.Thread(target=read_on) for _ in range(2)]
    for reader in readers:
        reader.start()
    for version in range(1, 30):
        save_archive(tmp_path / name, small_agent(version))
    done.set()
    for reader in readers:
        reader.join()
    assert failures == []
    assert len(set(seen)) > 2


def test_two_writers_of_one_place_leave_one_whole_version(tmp_path: Path) -> None:
    failures: list[Exception] = []

    def save_often(first: int) -> None:
        try:
            for version in range(first, first + 10):
                save_archive(tmp_path / "agent", small_agent(version))
        except ArchiveError as error:
            failures.append(error)

    writers = [threading.Thread(target=save_often, args=(first,)) for first in (100, 200)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert failures == []
    assert steps_of(tmp_path / "agent") in (109, 209)
    assert names(tmp_path) == ["agent"]


def test_a_swap_that_the_system_lacks_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(file_system, "_exchange_call", lambda first, second: errno.EINVAL)
    assert not exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a").read_text() == "a"


def test_a_swap_of_what_is_not_there_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "a", tmp_path / "b")
