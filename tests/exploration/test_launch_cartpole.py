"""The launch script of the story trains, goes on where it was interrupted, and is tuned."""

from __future__ import annotations

import shutil
from pathlib import Path

from rl_framework import load_agent
from rl_framework.launch.run_directory import RunDirectory
from tests.exploration.test_exploration import EXPLORATION, run_script

SCRIPT = EXPLORATION / "launch_cartpole.py"


def call(*words: str | Path, folder: Path) -> str:
    """Run the script, which must succeed, and give what it printed."""
    done = run_script(SCRIPT, *map(str, words), folder=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_story_of_a_launch_script(tmp_path: Path) -> None:
    assert "mean return" in call("train", "--epochs", "2", "--hidden-sizes", "8", "--output", "run", folder=tmp_path)
    run = RunDirectory(tmp_path / "run")
    assert run.read_config()["hidden_sizes"] == [8]
    (run.path / "result.json").unlink()
    shutil.rmtree(run.path / "agent")
    newest = run.latest_checkpoint()
    assert newest is not None
    shutil.rmtree(newest)

    call("train", "--resume", "run", folder=tmp_path)
    assert load_agent(run.path / "agent").is_trained
    assert run.latest_checkpoint() == newest

    words = ("--n-trials", "1", "--fix", "epochs=1", "--output", "study")
    assert "Train with it: python" in call("tune", *words, folder=tmp_path)
    assert "total_timesteps: 3000" in (tmp_path / "study" / "best.yaml").read_text()
