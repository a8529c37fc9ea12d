from __future__ import annotations

import logging
import shutil
import signal
from pathlib import Path

import pytest

from rl_framework.callbacks.checkpoint_schedule import CheckpointSchedule, as_checkpoint_schedule
from rl_framework.checkpoints.retention import CheckpointFolder
from rl_framework.errors import ArchiveError, InvalidInputError
from tests.callbacks.scripted_runs import Recorder, ScriptedTraining


def kept(folder: Path) -> list[int]:
    return CheckpointFolder(folder).steps()


def schedule(folder: Path, every_timesteps: int = 20) -> CheckpointSchedule:
    return CheckpointSchedule(folder, every_timesteps, keep_last=100)


def test_saves_at_the_start_at_each_multiple_and_at_the_end(tmp_path: Path) -> None:
    ScriptedTraining([schedule(tmp_path, 30)], 100).conduct()
    assert kept(tmp_path) == [0, 30, 60, 90, 100]


def test_saves_at_the_boundary_after_a_multiple(tmp_path: Path) -> None:
    ScriptedTraining([schedule(tmp_path, 30)], 64, stride=16, report_every=1).conduct()
    assert kept(tmp_path) == [0, 32, 64]


def test_reports_that_others_asked_for_are_no_reason_to_save(tmp_path: Path) -> None:
    ScriptedTraining([schedule(tmp_path, 50), Recorder(every_timesteps=1)], 100).conduct()
    assert kept(tmp_path) == [0, 50, 100]


def test_keeps_the_last_and_the_best(tmp_path: Path) -> None:
    training = ScriptedTraining(
        [CheckpointSchedule(tmp_path, 10, keep_last=2)], 100, length=1, total_reward=lambda step: -abs(step - 15.0)
    )
    training.conduct()
    assert kept(tmp_path) == [20, 90, 100]  # the mean return is -9.5 at step 10, -6 at 20, -7.5 at 30


def test_a_resumed_run_does_not_save_again_what_it_was_resumed_from(tmp_path: Path) -> None:
    ScriptedTraining([schedule(tmp_path)], 30).conduct()
    checkpoint = tmp_path / "step_000000000020"
    written = (checkpoint / "manifest.json").stat().st_mtime_ns
    ScriptedTraining.resumed(checkpoint, [schedule(tmp_path)]).conduct()
    assert (checkpoint / "manifest.json").stat().st_mtime_ns == written
    assert kept(tmp_path) == [0, 20, 30]


def test_a_resumed_run_saves_at_once_into_another_folder(tmp_path: Path) -> None:
    ScriptedTraining([schedule(tmp_path / "old")], 30).conduct()
    ScriptedTraining.resumed(tmp_path / "old" / "step_000000000020", [schedule(tmp_path / "new")]).conduct()
    assert kept(tmp_path / "new") == [20, 30]


@pytest.mark.parametrize("killed_at", [0, 20, 40, 60, 80])
def test_a_run_resumed_from_any_checkpoint_reports_and_saves_as_the_whole_one(tmp_path: Path, killed_at: int) -> None:
    whole, rest = Recorder(), Recorder()
    ScriptedTraining([whole, schedule(tmp_path)], 100, report_every=7).conduct()
    checkpoint = tmp_path / f"step_{killed_at:012d}"
    ScriptedTraining.resumed(checkpoint, [rest, schedule(tmp_path / "again")]).conduct()
    assert rest.steps == [step for step in whole.steps if step > killed_at]
    assert kept(tmp_path / "again") == [step for step in kept(tmp_path) if step >= killed_at]


def test_a_checkpoint_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    training = ScriptedTraining([schedule(tmp_path)], 50)
    save, failures = training.run.save_agent, iter([False, True, False, False])

    def failing_once(path: Path) -> None:
        if next(failures):
            raise ArchiveError("the disk is full")
        save(path)

    training.run.save_agent = failing_once  # type: ignore[method-assign]  # the failure under test
    (warning,) = training.conduct().warnings
    assert "checkpoint at step 20" in warning
    assert "the disk is full" in warning
    assert kept(tmp_path) == [0, 40, 50]


def test_a_checkpoint_that_failed_in_the_last_step_is_tried_again_at_the_end(tmp_path: Path) -> None:
    training = ScriptedTraining([schedule(tmp_path)], 20)
    save, failures = training.run.save_agent, iter([False, True, False])

    def failing_once(path: Path) -> None:
        if next(failures):
            raise ArchiveError("the disk is full")
        save(path)

    training.run.save_agent = failing_once  # type: ignore[method-assign]  # the failure under test
    assert len(training.conduct().warnings) == 1
    assert kept(tmp_path) == [0, 20]


def test_a_last_step_that_is_due_is_saved_once(tmp_path: Path) -> None:
    training = ScriptedTraining([schedule(tmp_path)], 40)
    save, saved = training.run.save_agent, []

    def counting(path: Path) -> None:
        saved.append(training.timesteps)
        save(path)

    training.run.save_agent = counting  # type: ignore[method-assign]  # to count
    training.conduct()
    assert saved == [0, 20, 40]


def test_a_last_checkpoint_that_cannot_be_written_stands_in_the_summary(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    training = ScriptedTraining([schedule(folder)], 10)

    def spoil(step: int) -> None:
        if step == 9:
            shutil.rmtree(folder)
            folder.write_text("in the way")

    training.at_step = spoil
    (warning,) = training.conduct().warnings
    assert "checkpoint at step 10" in warning


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(InvalidInputError, match="taken is a file"):
        schedule(tmp_path / "taken")


def test_the_checkpoints_of_a_run_further_on_are_not_mixed_with_a_new_one(tmp_path: Path) -> None:
    ScriptedTraining([schedule(tmp_path)], 100).conduct()
    with pytest.raises(InvalidInputError, match="up to step 100, and this run begins at step 0"):
        ScriptedTraining([schedule(tmp_path)], 100).conduct()


def test_a_schedule_serves_several_runs(tmp_path: Path) -> None:
    checkpoints = schedule(tmp_path, 30)
    ScriptedTraining([checkpoints], 45).conduct()
    ScriptedTraining([checkpoints], 100, timesteps=45).conduct()
    assert kept(tmp_path) == [0, 30, 45, 60, 90, 100]


# Waiting for a boundary that can be resumed exactly


def at_episode_ends(step: int) -> str:
    return "exact at episode boundary" if step % 7 == 0 else "approximate"


def test_a_due_checkpoint_waits_for_the_end_of_the_episode(tmp_path: Path) -> None:
    ScriptedTraining([schedule(tmp_path)], 50, level=at_episode_ends, report_every=1000).conduct()
    assert kept(tmp_path) == [0, 21, 42, 50]


def test_a_checkpoint_that_waited_long_enough_is_taken_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="rl_framework")
    ScriptedTraining([schedule(tmp_path)], 90, level=lambda _: "approximate").conduct()
    assert kept(tmp_path) == [0, 40, 80, 90]
    assert "Checkpoint at step 40" in caplog.text
    assert "resuming from it is approximate" in caplog.text


def test_after_waiting_the_run_reports_as_before(tmp_path: Path) -> None:
    recorder = Recorder()
    ScriptedTraining([recorder, schedule(tmp_path)], 60, level=at_episode_ends, report_every=1000).conduct()
    assert recorder.steps == [20, 21, 40, 41, 42, 60]


def test_a_resumed_run_goes_on_waiting(tmp_path: Path) -> None:
    def interrupt(step: int) -> None:
        if step == 25:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        ScriptedTraining(
            [schedule(tmp_path)], level=lambda _: "approximate", at_step=interrupt, report_every=1000
        ).conduct()
    resumed = ScriptedTraining.resumed(
        tmp_path / "step_000000000025",
        [schedule(tmp_path)],
        level=lambda step: "exact" if step > 26 else "approximate",
    )
    resumed.conduct()
    assert kept(tmp_path) == [0, 25, 27, 40, 60, 80, 100]


# The argument of train


def test_a_path_means_the_default_schedule(tmp_path: Path) -> None:
    made = as_checkpoint_schedule(str(tmp_path))
    assert made is not None
    assert (made.folder, made.every_timesteps) == (tmp_path, 10_000)


def test_a_schedule_and_nothing_stay_what_they_are(tmp_path: Path) -> None:
    given = schedule(tmp_path)
    assert as_checkpoint_schedule(given) is given
    assert as_checkpoint_schedule(None) is None


def test_something_else_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="path of a folder, got 500"):
        as_checkpoint_schedule(500)  # type: ignore[arg-type]  # the mistake under test


@pytest.mark.parametrize("options", [{"every_timesteps": 0}, {"keep_last": 0}])
def test_numbers_out_of_range_are_refused(tmp_path: Path, options: dict[str, int]) -> None:
    with pytest.raises(InvalidInputError, match="must be at least 1"):
        CheckpointSchedule(tmp_path, **options)  # type: ignore[arg-type]  # a dict of either number
