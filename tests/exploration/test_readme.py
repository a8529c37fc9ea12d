"""Every snippet of the README runs, in order, with smaller budgets."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from stable_baselines3 import PPO
from typer.testing import CliRunner

from rl_framework.cli.application import app
from rl_framework.testing.hub_server import HubServer
from tests.connectors.hub_testing import STREAMS_FILES, as_the_public_hub
from tests.envs.unity.peer.players import make_player

REPOSITORY = Path(__file__).parents[2]
README = REPOSITORY / "README.md"
STEPS = 600
BUDGET = re.compile(r"(--total-timesteps |total_timesteps=)[\d_]+")
TRIALS = re.compile(r"--n-trials \d+ --workers \d+")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def snippets(language: str) -> list[str]:
    """The fenced blocks of a language, their budgets of environment steps cut to `STEPS`."""
    found = [BUDGET.sub(rf"\g<1>{STEPS}", text) for kind, text in FENCE.findall(README.read_text()) if kind == language]
    assert found
    return found


def command_lines() -> list[list[str]]:
    """The words of every command line, comments left out; studies are of two trials."""
    lines = [line for text in snippets("bash") for line in TRIALS.sub("--n-trials 2", text).splitlines()]
    return [words for line in lines if (words := shlex.split(line, True))]


def lines_of(program: str) -> list[list[str]]:
    """The words after the program's name, for each of its lines."""
    return [words[1:] for words in command_lines() if words[0] == program]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """The Hub, with a model that somebody has put there."""
    with as_the_public_hub(tmp_path, monkeypatch) as server:
        model = PPO("MlpPolicy", "CartPole-v1", n_steps=64, device="cpu")
        model.save(tmp_path / "model.zip")
        files = {"ppo-CartPole-v1.zip": (tmp_path / "model.zip").read_bytes(), "README.md": b"A model."}
        server.repository("sb3/ppo-CartPole-v1").commit(files)
        yield server


@pytest.fixture
def unity_build(tmp_path: Path) -> Path:
    """A game where the README has one."""
    return make_player(tmp_path / "builds", agents=4)


@STREAMS_FILES
@pytest.mark.usefixtures("hub", "unity_build")
def test_the_python_snippets_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    story = ModuleType("readme")
    monkeypatch.setitem(sys.modules, story.__name__, story)
    for snippet in snippets("python"):
        exec(compile(snippet, str(README), "exec", dont_inherit=True), vars(story))
    assert (tmp_path / "agents" / "cartpole.mp4").exists()
    for environment in vars(story)["environments"]:
        environment.close()


@STREAMS_FILES
@pytest.mark.usefixtures("hub", "unity_build")
def test_the_command_lines_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words in lines_of("rl-framework"):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, (words, result.output)
    assert (tmp_path / "cartpole.mp4").exists()


def test_every_command_is_shown() -> None:
    shown = {words[0] for words in lines_of("rl-framework")}
    commands = {each.callback.__name__ for each in app.registered_commands if each.callback and not each.hidden}
    assert shown == commands | {group.name for group in app.registered_groups}


def test_the_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    assert {target for words in lines_of("make") for target in words} <= targets


def test_the_extras_exist() -> None:
    project = (REPOSITORY / "pyproject.toml").read_text()
    section = project.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    known = set(re.findall(r"^([a-z0-9]+) = \[", section, re.MULTILINE))
    rows = re.findall(
        r"^\| (`[a-z0-9`, ]+`) \| ", README.read_text().partition("| extra |")[2].partition("\n\n")[0], re.M
    )
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert told == known
    installed = re.search(r"pip install '\.\[(.+?)\]'", README.read_text())
    assert installed is not None
    assert set(installed[1].split(",")) <= known


def test_no_other_program_is_named() -> None:
    assert {words[0] for words in command_lines()} == {"make", "pip", "rl-framework", "tensorboard"}


def test_the_packages_of_the_table_exist() -> None:
    table = README.read_text().partition("| package |")[2].partition("\n\n")[0]
    named = re.findall(r"`([a-z_]+(?:/|\.py))`", table.replace(" ", " "))
    there = {
        f"{each.name}/" if each.is_dir() else each.name for each in (REPOSITORY / "src" / "rl_framework").iterdir()
    }
    assert named
    assert set(named) <= there


def test_the_licence_is_told() -> None:
    assert "© Alexander Zap" in README.read_text()
    assert "Alexander Zap" in (REPOSITORY / "LICENSE").read_text()
