from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rl_framework.launch.command_group import INTERRUPTED
from tests.cli.commands import SMALL, fail, rl_framework, succeed, timesteps, train_quickly

SECONDS = 60.0
# A process that a shell started in the background ignores Ctrl-C; this one must not.
MAIN = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from rl_framework.cli import main; main()"
)
SETUP = ("--total-timesteps", "6400", "--n-envs", "2", "--seed", "3", *SMALL)
LONG = ("train", "CartPole-v1", *SETUP, "--checkpoint-every", "640", "--evaluate-episodes", "2")


def start_long_run(output: Path) -> subprocess.Popen[str]:
    """Start a run in a process of its own, and wait for a checkpoint."""
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, *LONG, "--output", str(output)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + SECONDS
    while not (output / "checkpoints" / "step_000000000640").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def test_an_interrupted_run_ends_with_130_and_resumes_to_the_very_weights(tmp_path: Path) -> None:
    run, whole = tmp_path / "interrupted", tmp_path / "whole"
    process = start_long_run(run)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == INTERRUPTED, errors
    assert "Traceback" not in errors
    assert f"rl-framework resume {run}" in errors
    assert 0 < timesteps(run) < 6400
    assert not (run / "agent").exists()

    assert "Going on from" in succeed("resume", run)
    assert timesteps(run / "agent") == 6400
    succeed(*LONG, "--output", whole)
    assert learned(run) == learned(whole)
    assert results(run) == results(whole)


def learned(run: Path) -> dict[str, bytes]:
    """The files of a run's agent that hold networks, optimisers and the like; not those that hold times."""
    files = [*(run / "agent").glob("*.safetensors"), *(run / "agent" / "training_state").glob("model.*")]
    assert len(files) >= 2
    return {file.name: file.read_bytes() for file in files}


def results(run: Path) -> list[float]:
    """The returns of a run's evaluation."""
    returns: list[float] = json.loads((run / "results.json").read_text())["returns"]
    return returns


def test_ctrl_c_outside_of_training_ends_with_130_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def press(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    train_quickly(tmp_path)
    monkeypatch.setattr("rl_framework.cli.run.resume_run", press)
    assert rl_framework("resume", tmp_path).exit_code == INTERRUPTED


def test_a_run_that_was_interrupted_after_training_is_completed(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "results.json").unlink()
    assert "has ended already" in succeed("resume", copy)
    assert results(copy) == results(run)


def test_a_finished_run_is_left_as_it_is(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    before = {file: file.read_bytes() for file in copy.rglob("*") if file.is_file()}
    succeed("resume", copy)
    assert {file: file.read_bytes() for file in copy.rglob("*") if file.is_file()} == before


def test_stop_conditions_are_remembered(tmp_path: Path) -> None:
    train_quickly(tmp_path, "--total-timesteps", "100000", "--stop-at-return", "5")
    shutil.rmtree(tmp_path / "agent")
    assert "Stopped early: the mean return" in succeed("resume", tmp_path)
    assert timesteps(tmp_path) < 100000


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    assert "run.json" in fail("resume", tmp_path)


def test_a_run_without_any_checkpoint_says_so(run: Path, tmp_path: Path) -> None:
    shutil.copy(run / "run.json", tmp_path)
    assert "before its first checkpoint" in fail("resume", tmp_path)


@pytest.mark.parametrize("text", ["{", "[1]", '{"environment": "CartPole-v1"}', '{"unknown": 1}'])
def test_damaged_settings_are_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(text)
    assert "is damaged" in fail("resume", tmp_path, exit_code=1)
