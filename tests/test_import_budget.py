"""Importing is cheap: the package itself for everyone, its lower levels for worker processes."""

from __future__ import annotations

import subprocess
import sys
from statistics import median

import pytest

HEAVY = [
    "imageio_ffmpeg",
    "pygame",
    "rich",
    "sb3_contrib",
    "stable_baselines3",
    "tensorboard",
    "torch",
    "tqdm",
    "typer",
]
TIMED = "import time; start = time.perf_counter(); import rl_framework; print(time.perf_counter() - start)"


def _run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def _imported_by(module: str, candidates: list[str]) -> list[str]:
    return _run(f"import sys, {module}; print(*[name for name in {candidates!r} if name in sys.modules])").split()


def test_importing_the_package_takes_under_a_fifth_of_a_second() -> None:
    assert median(float(_run(TIMED)) for _ in range(5)) < 0.2


def test_importing_the_package_brings_in_no_engine_and_no_arrays() -> None:
    assert _imported_by("rl_framework", [*HEAVY, "gymnasium", "numpy"]) == []


@pytest.mark.parametrize(
    "module",
    [
        "algorithms.base",
        "agent.base_agent",
        "agent.catalog",
        "callbacks.checkpoint_schedule",
        "callbacks.progress_bar",
        "callbacks.run",
        "checkpoints.archive",
        "checkpoints.manifest",
        "connectors.local",
        "connectors.tensorboard",
        "core.policy",
        "data.episode",
        "envs.source",
        "envs.subprocess",
        "envs.worker",
        "evaluation.comparison",
        "evaluation.evaluate",
        "video.recording",
    ],
)
def test_module_that_workers_and_commands_import_brings_in_nothing_heavy(module: str) -> None:
    assert _imported_by(f"rl_framework.{module}", HEAVY) == []
