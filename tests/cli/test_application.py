from __future__ import annotations

import subprocess
import sys
import time
from importlib.metadata import version

import pytest

from rl_framework.cli.application import app
from tests.cli.commands import rl_framework, succeed

COMMANDS = ["train", "resume", "tune", "evaluate", "record", "compare", "info", "push", "pull", "environments"]
HEAVY = ("torch", "stable_baselines3", "gymnasium", "numpy", "tensorboard", "optuna", "yaml")


def test_the_command_line_offers_these_commands() -> None:
    shown = [command for command in app.registered_commands if not command.hidden]
    assert [command.callback.__name__ for command in shown if command.callback] == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_has_an_example(command: str) -> None:
    assert f"rl-framework {command}" in succeed(command, "--help")


def test_the_help_is_shown_without_importing_what_only_commands_need() -> None:
    script = (
        "import sys; sys.argv[1:] = ['--help']\n"
        "from rl_framework.cli import main\n"
        "try: main()\n"
        f"except SystemExit: print([name for name in {HEAVY} if name in sys.modules])"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert time.perf_counter() - started < 5.0


def test_the_module_is_the_command_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rl_framework", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == version("rl_framework")


def test_a_misspelt_option_is_bad_input() -> None:
    result = rl_framework("train", "CartPole-v1", "--total-timestep", "10")
    assert result.exit_code == 2
    assert "--total-timesteps" in result.output


def test_an_unknown_command_is_bad_input() -> None:
    assert rl_framework("trian").exit_code == 2


def test_without_a_command_the_help_is_shown() -> None:
    output = rl_framework().output
    assert "Usage:" in output
    assert all(command in output for command in COMMANDS)
