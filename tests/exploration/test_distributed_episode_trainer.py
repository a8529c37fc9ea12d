"""The script that trains in several processes, run in one; `test_accelerate_processes` does so in two."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "exploration" / "distributed_episode_trainer.py"


def test_the_script_trains_and_goes_on_where_it_ended(tmp_path: Path) -> None:
    assert [line.split()[0] for line in printed(tmp_path, budget=2000)] == ["2000", "Number"]
    assert [line.split()[0] for line in printed(tmp_path, budget=4000)] == ["4000", "Number"]


def printed(folder: Path, budget: int) -> list[str]:
    """What the script prints."""
    settings = {"RL_FRAMEWORK_EXPLORATION_TIMESTEPS": str(budget), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "run"],
        cwd=folder,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
