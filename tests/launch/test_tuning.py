"""Studies of a launch script: several processes, some of which die, one best configuration that `train` takes."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest

from rl_framework.launch.command_group import BAD_INPUT, FAILED, INTERRUPTED
from rl_framework.launch.config_files import read_mapping
from rl_framework.launch.configuration import build_config
from rl_framework.launch.run_directory import RunDirectory
from tests.launch.analytic_script import Config
from tests.launch.scripts import run_script, start_script

QUICK = ("--output", "study", "--sampler", "random", "--sampler-seed", "1")


def trials_of(folder: Path) -> list[optuna.trial.FrozenTrial]:
    """The trials in the database of a study."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'study' / 'study.db'}")
    try:
        return optuna.load_study(study_name=None, storage=storage).get_trials()
    finally:
        storage.remove_session()
        storage.engine.dispose()


def states_of(folder: Path) -> list[str]:
    return [trial.state.name for trial in trials_of(folder)]


def test_a_study_finds_a_configuration_that_train_takes_and_goes_on(tmp_path: Path) -> None:
    words = (
        "tune",
        *QUICK,
        "--workers",
        "2",
        "--seeds-per-trial",
        "3",
        "--pruner",
        "none",
        "--fix",
        "shape.kind=square",
    )
    printed = run_script(*words, "--n-trials", "5", folder=tmp_path)
    trials = trials_of(tmp_path)
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 5
    assert all(set(trial.params) == {"x", "shape.width"} for trial in trials)
    for trial in trials:
        # Seeds 0, 1 and 2 shift the score by as much: the worst is 2 below the best, the mean 1.
        best_run = -((trial.params["x"] - 2.0) ** 2) / trial.params["shape.width"] - 0.5
        assert trial.value == pytest.approx(best_run - 1.5)

    best = max(trials, key=lambda trial: trial.value or 0.0)
    assert f"The best is trial {best.number}" in printed
    config = build_config(Config, read_mapping(tmp_path / "study" / "best.yaml", Config))
    assert (config.x, config.shape.width, config.shape.kind, config.seed) == (*best.params.values(), "square", 0)
    first_run = RunDirectory(tmp_path / "study" / "trials" / "00000" / "seed_1")
    assert build_config(Config, first_run.read_config()).seed == 1

    command = re.search(r"^Train with it: python (.*)$", printed, re.MULTILINE)
    assert command is not None
    script, *rest = command.group(1).split()
    again = run_script(*rest, "--output", "run", folder=tmp_path, script=Path(script))
    assert float(again.split()[-1].rstrip(".")) == pytest.approx((best.value or 0.0) + 1.5, rel=1e-4)

    printed = run_script(*words, "--n-trials", "6", folder=tmp_path)
    assert "It has 5 of 6 trials already." in printed
    assert len(trials_of(tmp_path)) == 6
    log = (tmp_path / "study" / "workers" / "worker_0.log").read_text()
    assert "printed by the script" in log
    assert "printed by the function" in log


@pytest.mark.skipif(sys.platform == "win32", reason="processes are not killed like that there")
def test_a_trial_whose_process_is_killed_is_tried_again(tmp_path: Path) -> None:
    printed = run_script("tune", *QUICK, "--n-trials", "2", "--fix", "accident=dies", folder=tmp_path)
    killed, *others = trials_of(tmp_path)
    assert "its process was ended by SIGKILL; it is tried again" in printed
    assert killed.state.name == "FAIL"
    assert [trial.state.name for trial in others] == ["COMPLETE"] * 2
    (retried,) = [trial for trial in others if trial.system_attrs.get("retry_history")]
    assert retried.params == killed.params
    assert retried.system_attrs["retry_history"] == [killed.number]
    assert "2 trials were complete, 0 pruned, 0 failed." in printed


@pytest.mark.skipif(sys.platform == "win32", reason="processes are not killed like that there")
def test_a_study_whose_processes_all_died_goes_on_once_their_silence_is_noticed(tmp_path: Path) -> None:
    words = ("tune", *QUICK, "--n-trials", "1", "--heartbeat", "1", "--fix", "accident=both die")
    assert start_script(*words, folder=tmp_path).returncode == -9
    assert states_of(tmp_path) == ["RUNNING"]
    printed = run_script(*words, folder=tmp_path)
    assert (states_of(tmp_path)[0], states_of(tmp_path)[-1]) == ("FAIL", "COMPLETE")
    assert "1 trials were complete, 0 pruned, 0 failed." in printed


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
def test_ctrl_c_queues_the_trial_again(tmp_path: Path) -> None:
    words = ("tune", *QUICK, "--n-trials", "1", "--fix", "accident=interrupt")
    done = start_script(*words, folder=tmp_path)
    assert done.returncode == INTERRUPTED, done.stderr
    assert "the same line goes on" in done.stdout
    assert states_of(tmp_path) == ["FAIL", "WAITING"]
    run_script(*words, folder=tmp_path)
    assert states_of(tmp_path) == ["FAIL", "COMPLETE"]


def test_trials_without_prospects_are_ended_early_and_failures_do_not_stop_a_study(tmp_path: Path) -> None:
    words = ("--pruner", "median", "--startup-trials", "1", "--n-trials", "8", "--fix", "fails_above=3")
    printed = run_script("tune", *QUICK, *words, folder=tmp_path)
    trials = trials_of(tmp_path)
    by_state = {
        state: [trial for trial in trials if trial.state.name == state] for state in ("COMPLETE", "PRUNED", "FAIL")
    }
    assert all(by_state.values()), states_of(tmp_path)
    assert sum(map(len, by_state.values())) == 8
    assert "failed: RuntimeError: too far to the right" in printed
    assert all("too far to the right" in trial.user_attrs["error"] for trial in by_state["FAIL"])
    complete = min(len(trial.intermediate_values) for trial in by_state["COMPLETE"])
    assert all(len(trial.intermediate_values) < complete for trial in by_state["PRUNED"])
    pruned = RunDirectory(tmp_path / "study" / "trials" / f"{by_state['PRUNED'][0].number:05d}" / "seed_0")
    assert not pruned.has_ended


def test_a_study_without_any_complete_trial_shows_the_first_error(tmp_path: Path) -> None:
    words = ("--storage", "sqlite:///elsewhere.db", "--n-trials", "2", "--fix", "fails_above=-5")
    done = start_script("tune", *QUICK, *words, folder=tmp_path)
    assert done.returncode == FAILED
    assert "No trial was complete" in done.stderr
    assert "RuntimeError: too far to the right" in done.stderr
    assert not (tmp_path / "study" / "best.yaml").exists()
    assert not (tmp_path / "study" / "study.db").exists()
    assert (tmp_path / "elsewhere.db").exists()


def test_mistakes_are_told_before_a_study_begins(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text("x: 1\nshape: {width: 1, kind: square}\n")
    lines: list[tuple[Any, ...]] = [
        (("--fix", "y=1"), "Unknown field of Config: 'y'"),
        (("--fix", "all.yaml"), "There is nothing to tune"),
    ]
    for words, message in lines:
        done = start_script("tune", *QUICK, *words, folder=tmp_path)
        assert (done.returncode, message in done.stderr) == (BAD_INPUT, True), done.stderr
    assert not (tmp_path / "study").exists()
