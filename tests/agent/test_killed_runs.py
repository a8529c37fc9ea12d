"""A run that is killed at any moment can be loaded and finished, and ends with the same weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agent.killed_runs import RUNS

SCRIPT = Path(__file__).parent / "killed_runs.py"


CASES = [*(("PPO", 10, seed) for seed in range(5)), ("DQN", 6, 5), ("OffPolicy", 4, 6), ("OffPolicy mapped", 4, 7)]


@pytest.mark.parametrize(("algorithm", "kills", "seed"), CASES)
def test_killed_runs_end_with_the_same_weights(algorithm: str, kills: int, seed: int, tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), str(tmp_path), algorithm, str(kills), str(seed)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert result.returncode == 0, result.stderr
    outcomes = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    assert sum(outcome["killed"] for outcome in outcomes) == kills
    assert all(outcome["digest"] == outcome["expected"] for outcome in outcomes)
    assert all(outcome["ended_at"] == RUNS[algorithm][2] for outcome in outcomes)
    assert any(0 < outcome["resumed_at"] < outcome["ended_at"] for outcome in outcomes)
