"""The folder of a replay: who has it, what fits it, what is refused and left alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rl_framework.data import memory_mapped_replay
from rl_framework.errors import (
    ArchiveError,
    CorruptArchiveError,
    InvalidInputError,
    MissingArchiveError,
    NewerFormatError,
)
from tests.data.replays import (
    CAPACITY,
    SlowReplay,
    add_numbered,
    check_numbers,
    check_same,
    crashed_copy,
    go_on,
    make_replay,
    resumed,
)


def test_one_replay_at_a_time_has_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_mapped_replay, "LOCK_PATIENCE", 0.05)
    folder = tmp_path / "replay"
    first, slow = make_replay(CAPACITY, folder), SlowReplay(CAPACITY)
    go_on(first, slow, 20)
    second = resumed(folder, first.state_dict())
    assert len(second) == CAPACITY
    with pytest.raises(InvalidInputError, match=r"has .* open"):
        second.read(["rewards"], torch.arange(3))
    first.close()
    check_same(second, slow)
    second.close()
    check_same(first, slow)


def test_another_process_cannot_have_it_either(tmp_path: Path) -> None:
    replay = make_replay(CAPACITY, tmp_path / "replay")
    add_numbered(replay, [False])
    code = (
        "import sys; from rl_framework.checkpoints.file_system import FolderLock; from pathlib import Path;"
        "print(FolderLock(Path(sys.argv[1])).acquire())"
    )
    asked = [sys.executable, "-c", code, str(tmp_path / "replay")]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip() == "False"
    replay.close()
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip() == "True"


def test_a_replay_that_nobody_uses_any_more_is_no_obstacle(tmp_path: Path) -> None:
    first, slow = make_replay(CAPACITY, tmp_path / "replay"), SlowReplay(CAPACITY)
    go_on(first, slow, 20)
    state = first.state_dict()
    holder: dict[str, Any] = {"replay": first}
    holder["itself"] = holder
    del first, holder
    check_same(resumed(tmp_path / "replay", state), slow)


def test_a_state_is_passed_on_without_its_files(tmp_path: Path) -> None:
    replay, slow = make_replay(CAPACITY, tmp_path / "replay"), SlowReplay(CAPACITY)
    go_on(replay, slow, 20)
    state = replay.state_dict()
    elsewhere = resumed(tmp_path / "elsewhere", state)
    assert (len(elsewhere), elsewhere.total) == (CAPACITY, 40)
    assert elsewhere.state_dict() == state
    assert not (tmp_path / "elsewhere").exists()
    with pytest.raises(MissingArchiveError, match=r"no replay in .*elsewhere; it lay in .*/replay when"):
        elsewhere.episodes()
    assert not (tmp_path / "elsewhere").exists()


def test_rows_that_were_never_saved_stand_in_nobodys_way(tmp_path: Path) -> None:
    folder = tmp_path / "replay"
    go_on(make_replay(CAPACITY, folder), SlowReplay(CAPACITY), 4)
    replay, slow = make_replay(CAPACITY, folder), SlowReplay(CAPACITY)
    go_on(replay, slow, 3)
    check_same(replay, slow)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    replay = make_replay(CAPACITY, tmp_path / "replay")
    go_on(replay, SlowReplay(CAPACITY), 4)
    state = replay.state_dict()
    replay.close()
    return tmp_path / "replay", state


def edit_table(folder: Path, **changes: Any) -> None:
    table = json.loads((folder / "replay.json").read_text())
    (folder / "replay.json").write_text(json.dumps(table | changes))


DAMAGES: list[tuple[Callable[[Path], object], type[Exception], str]] = [
    (lambda folder: edit_table(folder, format=2), NewerFormatError, "has the format 2"),
    (lambda folder: edit_table(folder, capacity=7), InvalidInputError, "a capacity of 7, expected 30"),
    (lambda folder: edit_table(folder, columns={}), InvalidInputError, "does not fit: it has the columns"),
    (lambda folder: edit_table(folder, moments=[]), InvalidInputError, "belongs to another run"),
    (lambda folder: (folder / "replay.json").write_text("{"), CorruptArchiveError, "is damaged"),
    (lambda folder: (folder / "replay.json").write_text('{"format": 1}'), CorruptArchiveError, "is damaged"),
    (lambda folder: os.truncate(folder / "float32.bin", 100), CorruptArchiveError, "float32.bin is missing, or not of"),
    (lambda folder: (folder / "marks.bin").unlink(), CorruptArchiveError, "marks.bin is missing"),
]


@pytest.mark.parametrize(("damage", "error", "message"), DAMAGES)
def test_a_folder_that_does_not_fit_is_refused_and_left_alone(
    saved: tuple[Path, dict[str, Any]], damage: Callable[[Path], object], error: type[Exception], message: str
) -> None:
    folder, state = saved
    intact = crashed_copy(folder, "intact")
    damage(folder)
    replay = resumed(folder, state)
    for _ in range(2):
        with pytest.raises(error, match=message):
            replay.episodes()
    shutil.rmtree(folder)
    shutil.copytree(intact, folder)
    check_numbers(replay, torch.arange(8), range(8))


def test_a_new_run_does_not_take_the_folder_of_a_saved_one(saved: tuple[Path, dict[str, Any]]) -> None:
    folder, state = saved
    with pytest.raises(InvalidInputError, match="holds the replay of an earlier run"):
        add_numbered(make_replay(CAPACITY, folder), [False])
    check_numbers(resumed(folder, state), torch.arange(8), range(8))


def test_states_in_memory_and_in_files_are_not_mixed_up(saved: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"lay in the folder .*/replay, this one lies in memory; give it that"):
        make_replay(CAPACITY).load_state_dict(saved[1])
    with pytest.raises(InvalidInputError, match="lay in memory, this one lies in files; give it no folder"):
        make_replay(CAPACITY, tmp_path / "new").load_state_dict(make_replay(CAPACITY).state_dict())


def test_a_full_disk_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(memory_mapped_replay, "_reserve", refuse)
    with pytest.raises(ArchiveError, match=r"30 rows takes 0.00 GB, which cannot be had in .*: No space left"):
        add_numbered(make_replay(CAPACITY, tmp_path / "replay"), [False])
    assert list((tmp_path / "replay").iterdir()) == []


def test_a_copy_that_nobody_may_write_is_named(
    saved: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, state = saved
    replay, opened = resumed(folder, state), Path.open

    def refuse(path: Path, mode: str = "r", *others: Any, **options: Any) -> Any:
        if mode == "r+b":
            raise OSError(30, "Read-only file system", str(path))
        return opened(path, mode, *others, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        with pytest.raises(ArchiveError, match=r".bin cannot be opened for writing: Read-only .* copy the folder"):
            replay.episodes()
    check_numbers(replay, torch.arange(8), range(8))
