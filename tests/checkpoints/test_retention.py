"""The latest checkpoints and the best one stay; nothing half removed is ever taken for a whole one."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rl_framework.checkpoints import retention
from rl_framework.checkpoints.file_system import FolderLock
from rl_framework.checkpoints.locate import find_agent, step_folder
from rl_framework.checkpoints.retention import CheckpointFolder, remove_checkpoint
from rl_framework.errors import ArchiveError, InvalidInputError
from tests.checkpoints.agents import names, small_agent, steps_of


def save_all(checkpoints: CheckpointFolder, scores: dict[int, float | None]) -> None:
    for timesteps, score in scores.items():
        checkpoints.save(timesteps, small_agent(timesteps), score)


def test_the_last_ones_stay(tmp_path: Path) -> None:
    checkpoints = CheckpointFolder(tmp_path / "c", keep_last=2)
    save_all(checkpoints, dict.fromkeys((200, 400, 600, 800)))
    assert checkpoints.steps() == [600, 800]
    assert checkpoints.latest() == step_folder(tmp_path / "c", 800)
    assert steps_of(step_folder(tmp_path / "c", 600)) == 600


def test_all_stay_if_wished(tmp_path: Path) -> None:
    checkpoints = CheckpointFolder(tmp_path, keep_last=None)
    save_all(checkpoints, dict.fromkeys(range(1, 8)))
    assert checkpoints.steps() == list(range(1, 8))


def test_the_best_stays_beside_the_last(tmp_path: Path) -> None:
    checkpoints = CheckpointFolder(tmp_path, keep_last=1)
    save_all(checkpoints, {1: 5.0, 2: 9.0, 3: 7.0, 4: None, 5: float("nan"), 6: 9.0})
    assert checkpoints.steps() == [2, 6]
    assert checkpoints.best() == step_folder(tmp_path, 2)
    assert checkpoints.best_score() == 9.0
    assert json.loads((tmp_path / "best.json").read_text()) == {"timesteps": 2, "score": 9.0}


def test_a_better_one_takes_over_and_the_former_best_goes(tmp_path: Path) -> None:
    checkpoints = CheckpointFolder(tmp_path, keep_last=1)
    save_all(checkpoints, {1: 5.0, 2: 1.0, 3: 6.0, 4: 2.0})
    assert checkpoints.steps() == [3, 4]


def test_the_best_need_not_stay(tmp_path: Path) -> None:
    checkpoints = CheckpointFolder(tmp_path, keep_last=1, keep_best=False)
    save_all(checkpoints, {1: 5.0, 2: 1.0})
    assert checkpoints.steps() == [2]
    assert checkpoints.best() is None


def test_a_best_one_that_is_gone_is_succeeded_by_any_score(tmp_path: Path) -> None:
    checkpoints = CheckpointFolder(tmp_path)
    save_all(checkpoints, {1: 5.0, 2: 4.0})
    shutil.rmtree(step_folder(tmp_path, 1))
    assert checkpoints.best() is None
    save_all(checkpoints, {3: 1.0})
    assert checkpoints.best() == step_folder(tmp_path, 3)


def test_the_score_of_a_replaced_checkpoint_does_not_outlive_it(tmp_path: Path) -> None:
    checkpoints = CheckpointFolder(tmp_path)
    save_all(checkpoints, {1: 5.0})
    save_all(checkpoints, {1: 2.0})
    assert checkpoints.best_score() == 2.0


def test_another_object_on_the_same_folder_knows_the_best(tmp_path: Path) -> None:
    save_all(CheckpointFolder(tmp_path, keep_last=1), {1: 5.0})
    save_all(CheckpointFolder(tmp_path, keep_last=1), {2: 3.0})
    assert CheckpointFolder(tmp_path).best() == step_folder(tmp_path, 1)


@pytest.mark.parametrize("content", ["", "[]", '{"timesteps": null, "score": 1}', '{"score": 1}'])
def test_an_unreadable_mark_is_said_and_succeeded(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = CheckpointFolder(tmp_path)
    save_all(checkpoints, {1: 5.0})
    (tmp_path / "best.json").write_text(content)
    with caplog.at_level(logging.WARNING):
        assert checkpoints.best() is None
    assert "best.json is not readable" in caplog.text
    save_all(checkpoints, {2: 1.0})
    assert checkpoints.best() == step_folder(tmp_path, 2)


def test_a_checkpoint_behind_older_ones_of_another_run_is_not_removed(tmp_path: Path) -> None:
    checkpoints = CheckpointFolder(tmp_path, keep_last=2)
    save_all(checkpoints, dict.fromkeys((1000, 2000)))
    assert checkpoints.save(200, small_agent(200)).is_dir()
    assert checkpoints.steps() == [200, 1000, 2000]


def test_an_empty_or_missing_folder_has_no_checkpoints(tmp_path: Path) -> None:
    checkpoints = CheckpointFolder(tmp_path / "none")
    assert (checkpoints.steps(), checkpoints.latest(), checkpoints.best()) == ([], None, None)
    assert names(tmp_path) == []


def test_a_failing_save_removes_nothing(tmp_path: Path) -> None:
    checkpoints = CheckpointFolder(tmp_path, keep_last=1)
    save_all(checkpoints, {1: 1.0})

    def full(folder: Path) -> None:
        raise OSError("No space left on device")

    with pytest.raises(ArchiveError, match="No space left"):
        checkpoints.save(2, full, score=9.0)
    assert checkpoints.steps() == [1]
    assert names(tmp_path) == ["best.json", "step_000000000001"]


@pytest.mark.parametrize(("timesteps", "keep_last"), [(-1, 3), (1, 0), (1, -2)])
def test_numbers_without_meaning_are_refused(tmp_path: Path, timesteps: int, keep_last: int) -> None:
    with pytest.raises(InvalidInputError, match=r"-1|0|-2"):
        CheckpointFolder(tmp_path, keep_last=keep_last).save(timesteps, small_agent(1))
    assert names(tmp_path) == []


def test_a_checkpoint_that_cannot_be_removed_is_said_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = CheckpointFolder(tmp_path, keep_last=1)
    save_all(checkpoints, {1: None})

    def refuse(folder: Path) -> None:
        raise PermissionError("no")

    with monkeypatch.context() as context:
        context.setattr(retention, "_remove_folder", refuse)
        save_all(checkpoints, {2: None})
    assert "could not be removed" in caplog.text
    assert checkpoints.steps() == [2]
    save_all(checkpoints, {3: None})
    assert names(tmp_path) == ["step_000000000003"]


def test_a_checkpoint_that_is_being_read_stays_until_the_next_save(tmp_path: Path) -> None:
    checkpoints = CheckpointFolder(tmp_path, keep_last=1)
    save_all(checkpoints, {1: None})
    reader = FolderLock(step_folder(tmp_path, 1))
    assert reader.acquire(shared=True)
    save_all(checkpoints, {2: None})
    assert checkpoints.steps() == [1, 2]
    reader.release()
    save_all(checkpoints, {3: None})
    assert checkpoints.steps() == [3]


def test_killed_while_removing_no_half_checkpoint_is_found(tmp_path: Path) -> None:
    checkpoints = CheckpointFolder(tmp_path, keep_last=None)
    save_all(checkpoints, {1: None, 2: None})
    code = (
        "import os, shutil, signal; from pathlib import Path; from rl_framework.checkpoints import retention\n"
        "shutil.rmtree = lambda folder: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"retention.remove_checkpoint(Path({str(step_folder(tmp_path, 2))!r}))\n"
    )
    source = str(Path(__file__).parents[2] / "src")
    run = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": source}, check=False)
    assert run.returncode == -9
    assert find_agent(tmp_path) == step_folder(tmp_path, 1)
    assert len(names(tmp_path)) == 2
    save_all(checkpoints, {3: None})
    assert names(tmp_path) == ["step_000000000001", "step_000000000003"]


def test_removing_says_whether_it_is_gone(tmp_path: Path) -> None:
    save_all(CheckpointFolder(tmp_path), {1: None})
    assert remove_checkpoint(step_folder(tmp_path, 1))
    assert not remove_checkpoint(step_folder(tmp_path, 1))
