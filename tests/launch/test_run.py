"""A run leaves a folder that says everything, belongs to one process at a time, and can be gone on with."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rl_framework import LocalConnector, NativeAgent, QLearning
from rl_framework.checkpoints.file_system import FolderLock
from rl_framework.errors import ArchiveError, InvalidInputError, MissingArchiveError
from rl_framework.launch import Run
from rl_framework.launch.run_directory import RunDirectory
from rl_framework.launch.script import Script, Start, execute
from rl_framework.launch.versions import git_state, versions
from tests.launch.scripts import read_json


@dataclass(frozen=True)
class Config:
    rate: float = 0.5
    sizes: tuple[int, ...] = (1, 2)


def script_of(train: Any, **options: Any) -> Script[Config]:
    return Script(train=train, config_class=Config, **options)


def run_in(folder: Path, train: Any, **start: Any) -> float | None:
    return execute(script_of(train), Config(), Start(directory=RunDirectory(folder), **start))


def report_twice(config: Config, run: Run) -> None:
    run.report(1, mean_return=1.0, loss=0.5)
    run.report(2, mean_return=2.0)


def test_a_run_leaves_its_configuration_versions_reports_and_result(tmp_path: Path) -> None:
    assert run_in(tmp_path / "run", report_twice) == 2.0
    directory = RunDirectory(tmp_path / "run")
    assert directory.read_config() == {"rate": 0.5, "sizes": [1, 2]}
    (made,) = directory.read_versions()
    assert made["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"rl_framework", "torch", "numpy", "optuna"} <= set(made["libraries"])
    reports = LocalConnector(directory.reports)
    assert reports.read_values() == {"mean_return": [(1, 1.0), (2, 2.0)], "loss": [(1, 0.5)]}
    assert reports.read_parameters() == {"rate": 0.5, "sizes": [1, 2]}
    assert read_json(directory.result) == {"score": 2.0, "primary": "mean_return"}
    assert sorted(each.name for each in directory.path.iterdir()) == [
        "config.yaml", "reports", "result.json", "versions.json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("returned", "score"), [(None, 2.0), (5, 5.0), (np.float32(0.5), 0.5), (float("inf"), float("inf"))]
)
def test_what_the_function_returns_is_the_score_else_what_it_reported_last(
    returned: Any, score: float, tmp_path: Path
) -> None:
    def train(config: Config, run: Run) -> Any:
        report_twice(config, run)
        return returned

    assert run_in(tmp_path, train) == score
    assert float(read_json(tmp_path / "result.json")["score"]) == score


def test_without_a_score_there_is_none(tmp_path: Path) -> None:
    assert run_in(tmp_path, lambda config, run: None) is None


def test_a_result_that_is_no_number_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="returned 'good'"):
        run_in(tmp_path, lambda config, run: "good")


def test_another_primary_statistic_counts(tmp_path: Path) -> None:
    script = script_of(report_twice, primary="loss")
    assert execute(script, Config(), Start(directory=RunDirectory(tmp_path))) == 0.5


def test_a_folder_with_a_run_is_refused_unless_it_may_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    run_in(tmp_path, report_twice)
    (tmp_path / "agent").mkdir()
    with pytest.raises(InvalidInputError, match="holds a run already"):
        run_in(tmp_path, report_twice)
    assert run_in(tmp_path, lambda config, run: 7.0, overwrite=True) == 7.0
    assert LocalConnector(tmp_path / "reports").read_values() == {}
    assert (tmp_path / "notes.txt").exists()
    assert not (tmp_path / "agent").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no locks on folders there")
def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    assert lock.acquire()
    try:
        for start in ({"overwrite": True}, {"resumes": True}):
            with pytest.raises(InvalidInputError, match="A run is going on in"):
                run_in(tmp_path, report_twice, **start)
    finally:
        lock.release()
    run_in(tmp_path, report_twice)


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInputError, match="is a file"):
        run_in(tmp_path / "file", report_twice)


def save_and_fail(config: Config, run: Run) -> None:
    for step in (1, 2, 3):
        run.report(step, mean_return=float(step))
        run.save_state(step, {"step": step, "weights": np.arange(step)}, score=-float(step), keep_last=1)
    raise RuntimeError("the power is gone")


def test_a_run_that_broke_off_goes_on_from_its_newest_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="power"):
        run_in(tmp_path, save_and_fail)
    directory = RunDirectory(tmp_path)
    assert not directory.result.exists()
    assert sorted(each.name for each in directory.checkpoints.glob("step_*")) == [
        "step_000000000001",
        "step_000000000003",
    ]

    def go_on(config: Config, run: Run) -> float:
        state = run.load_state()
        assert run.resumed == directory.checkpoints / "step_000000000003"
        assert state["weights"].tolist() == [0, 1, 2]
        run.report(4, mean_return=4.0)
        return float(state["step"])

    assert run_in(tmp_path, go_on, resumes=True) == 3.0
    assert directory.has_ended
    assert len(directory.read_versions()) == 2
    assert LocalConnector(directory.reports).read_values()["mean_return"][-2:] == [(3, 3.0), (4, 4.0)]


def test_a_run_that_broke_off_before_its_first_checkpoint_begins_anew(tmp_path: Path) -> None:
    def look(config: Config, run: Run) -> None:
        assert run.resumed is None
        assert run.load_state() is None

    run_in(tmp_path, look, resumes=True)


def test_what_is_not_a_run_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(MissingArchiveError, match=r"there is no config\.yaml in it"):
        RunDirectory(tmp_path).read_config()
    (tmp_path / "versions.json").write_text("[")
    with pytest.raises(ArchiveError, match="is damaged"):
        RunDirectory(tmp_path).read_versions()


def test_an_agent_reports_to_its_run_and_saves_in_it(tmp_path: Path) -> None:
    heard: list[tuple[int, float]] = []

    def train(config: Config, run: Run) -> None:
        agent = NativeAgent(QLearning, {"seed": 0})
        environments = [gym.make("FrozenLake-v1")]
        agent.train(environments, 3000, connector=run.connector, checkpoint=run.checkpoints, progress_bar=False)

    score = run_in(tmp_path, train, listener=lambda step, value: heard.append((step, value)))
    assert score == heard[-1][1]
    assert heard == LocalConnector(tmp_path / "reports").read_values()["rollout/ep_rew_mean"]
    newest = RunDirectory(tmp_path).latest_checkpoint()
    assert newest is not None
    assert NativeAgent.load(newest).timesteps == 3000


def test_a_listener_may_end_the_training_of_an_agent(tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def stop(step: int, value: float) -> None:
        if step >= 500:
            raise Enough

    def train(config: Config, run: Run) -> None:
        agent = NativeAgent(QLearning, {"seed": 0})
        agent.train([gym.make("FrozenLake-v1")], 100_000, connector=run.connector, progress_bar=False)

    with pytest.raises(Enough):
        run_in(tmp_path, train, listener=stop)
    assert not RunDirectory(tmp_path).has_ended


@pytest.mark.parametrize("step", [-1, 1.5, "1", None])
def test_a_step_is_a_whole_number(step: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="step"):
        Run(RunDirectory(tmp_path)).report(step, mean_return=0.0)


def test_whatever_else_a_tracker_takes_goes_to_the_reports(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"film")
    with Run(RunDirectory(tmp_path)) as run:
        run.log_value("mean_return", 1.0)
        run.log_value("mean_return", 2.0, 5)
        run.log_text("note", "hello", 5)
        run.log_parameters({"a": 1})
        run.log_video("film", tmp_path / "film.mp4", 5)
        run.log_artifact("film", tmp_path / "film.mp4")
        run.flush()
    assert run.score == 2.0
    assert (tmp_path / "reports" / "videos" / "film-5.mp4").read_bytes() == b"film"
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "reports" / "log.jsonl").read_text().splitlines()]
    assert kinds == ["values", "values", "text", "parameters", "video", "artifact"]


def test_the_commit_is_read_and_nothing_is_changed(tmp_path: Path) -> None:
    repository = Path(__file__).parents[2]
    index = repository / ".git" / "index"
    before = index.stat().st_mtime_ns if index.exists() else None
    found = git_state(repository)
    assert found is None or len(found["commit"]) == 40
    assert (index.stat().st_mtime_ns if index.exists() else None) == before
    assert git_state(tmp_path) is None
    assert versions(None)["git"] is None
