"""Calls of the command line in this process."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner, Result

from rl_framework.checkpoints.locate import find_agent
from rl_framework.checkpoints.manifest import Manifest
from rl_framework.cli.application import app

SMALL = ("-P", "n_steps=32", "-P", "batch_size=32", "-P", "n_epochs=1", "-P", "policy_kwargs={'net_arch': [8]}")
QUICK = ("--n-envs", "2", "--seed", "1", "--evaluate-episodes", "3", *SMALL)


def rl_framework(*words: str | Path) -> Result:
    """Run one command line."""
    return CliRunner().invoke(app, [str(word) for word in words])


def succeed(*words: str | Path) -> str:
    """Run one command line that must succeed, and give what it printed."""
    result = rl_framework(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


def fail(*words: str | Path, exit_code: int = 2) -> str:
    """Run one command line that must fail with a message instead of a traceback, and give the message."""
    result = rl_framework(*words)
    assert result.exit_code == exit_code, result.output
    assert "Traceback" not in result.output
    return result.stderr


def train_quickly(output: Path, *words: str) -> str:
    """A run of 192 steps in CartPole-v1."""
    return succeed("train", "CartPole-v1", "--total-timesteps", "192", "--output", output, *QUICK, *words)


def timesteps(path: Path) -> int:
    """The steps of the saved agent that a path means."""
    return Manifest.read(find_agent(path)).timesteps
