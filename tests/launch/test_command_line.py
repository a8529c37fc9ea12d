"""A script's command line: every field is an option, every mistake is one clear message before any work."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rl_framework.errors import InvalidInputError
from rl_framework.launch import Run, run, tunable
from rl_framework.launch.command_group import BAD_INPUT, FAILED, INTERRUPTED
from rl_framework.launch.run_directory import RunDirectory
from tests.launch.scripts import run_script, start_script

HEAVY = ("torch", "stable_baselines3", "gymnasium", "numpy", "optuna", "yaml", "typer")


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part."""

    rate: float = 0.1
    is_fast: bool = True


@dataclass(frozen=True, kw_only=True)
class Config:
    """What a test can be told."""

    rate: float = tunable(0.5, low=0.1, high=1.0)
    sizes: tuple[int, ...] = (64,)
    part: Part = field(default_factory=Part)
    is_on: bool = False
    fails: str = "no"


def train(config: Config, run: Run) -> float:
    """Show what was understood."""
    sys.stdout.write(f"{config}\n")
    if config.fails == "interrupted":
        raise KeyboardInterrupt
    if config.fails == "on purpose":
        raise InvalidInputError("the run cannot be")
    if config.fails == "once" and run.resumed is None:
        run.save_state(5, {"steps": 5})
        raise KeyboardInterrupt
    return 1.5


def call(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        run(train, Config, arguments=[str(word) for word in words])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_every_field_is_an_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--rate", "1e-1", "--sizes", "3,4", "--part.rate", "9", "--part.no-is-fast", "--is-on")
    assert call("train", "--output", tmp_path / "run", *words) == 0
    expected = Config(rate=0.1, sizes=(3, 4), part=Part(rate=9.0, is_fast=False), is_on=True)
    printed = capsys.readouterr().out
    assert printed.splitlines()[0] == str(expected)
    assert f"The run is in {tmp_path / 'run'}; its mean_return is 1.5." in printed


def test_the_line_wins_over_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text("rate: 2e-1\npart:\n  rate: 5\n")
    assert call("train", "--config", tmp_path / "config.yaml", "--rate", "0.3", "-o", tmp_path / "run") == 0
    assert capsys.readouterr().out.splitlines()[0] == str(Config(rate=0.3, part=Part(rate=5.0)))


def test_a_run_without_an_output_goes_to_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("train") == 0
    (made,) = (tmp_path / "runs").iterdir()
    assert RunDirectory(made).has_ended


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rate", "fast"), "rate needs float; got 'fast'"),
        (("--part.rate", "[]"), "part.rate needs float"),
        (("--rat", "1"), "--rat"),
        (("--config", "missing.yaml"), "cannot be read"),
        (("--config", "misspelt.yaml"), "Unknown field of Config: 'rat'. Did you mean 'rate'?"),
        (("--config", "mistyped.yaml"), "sizes needs tuple[int, ...]; got 5"),
        (("--resume", "nothing"), "is not the folder of a run"),
        (("--resume", "nothing", "--rate", "1"), "leave out everything else"),
        (("--resume", "nothing", "--output", "x"), "leave out everything else"),
    ],
)
def test_a_mistake_is_one_message_before_any_work(
    words: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "misspelt.yaml").write_text("rat: 1")
    (tmp_path / "mistyped.yaml").write_text("sizes: 5")
    assert call("train", *words) == BAD_INPUT
    printed = capsys.readouterr()
    assert message in printed.err
    assert "Traceback" not in printed.err
    assert not (tmp_path / "runs").exists()


def test_debug_shows_where_an_error_comes_from(tmp_path: Path) -> None:
    words = ["train", "--fails", "on purpose", "-o", str(tmp_path / "run")]
    assert call(*words) == BAD_INPUT
    with pytest.raises(InvalidInputError, match="the run cannot be"):
        run(train, Config, arguments=["--debug", *words, "--overwrite"])


def test_an_interrupted_run_says_how_to_go_on_and_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert call("train", "--fails", "once", "--rate", "0.7", "-o", folder) == INTERRUPTED
    assert f"train --resume {folder}" in capsys.readouterr().err
    assert call("train", "--resume", folder) == 0
    assert capsys.readouterr().out.splitlines()[0] == str(Config(rate=0.7, fails="once"))
    assert call("train", "--resume", folder) == 0
    assert "has ended already" in capsys.readouterr().out


def test_a_sample_is_printed_or_written_and_taken_by_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("sample-config") == 0
    printed = capsys.readouterr().out
    assert call("sample-config", "--output", tmp_path / "sample.yaml") == 0
    assert (tmp_path / "sample.yaml").read_text() == printed
    assert call("sample-config", "--output", tmp_path / "sample.yaml") == BAD_INPUT
    assert call("train", "--config", tmp_path / "sample.yaml", "-o", tmp_path / "run") == 0
    assert str(Config()) in capsys.readouterr().out


def test_the_help_names_fields_types_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("train", "--help") == 0
    printed = capsys.readouterr().out
    for part in ("--rate <float>", "--sizes <tuple[int, ...]>", "--part.is-fast / --part.no-is-fast", "([64])"):
        assert part in printed
    assert call("--help") == 0
    commands = capsys.readouterr().out
    assert "What a test can be told." in commands
    assert all(name in commands for name in ("train", "tune", "sample-config"))
    assert "tune-worker" not in commands


@dataclass(frozen=True)
class Clash:
    output: str = ""


@dataclass
class Soft:
    rate: float = 0.5


@pytest.mark.parametrize(
    ("config_class", "options", "message"),
    [
        (Clash, {}, "has the name of an option"),
        (Soft, {}, "frozen dataclass"),
        (Config, {"direction": "up"}, "Unknown direction"),
    ],
)
def test_a_script_that_cannot_be_a_command_line_is_told(config_class: Any, options: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        run(train, config_class, arguments=["train"], **options)
    with pytest.raises(InvalidInputError, match="must be a function"):
        run(None, Config, arguments=["train"])  # type: ignore[arg-type]  # the point of the test


def test_a_script_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    printed = run_script("train", "--x", "2", "--output", "run", folder=tmp_path)
    assert "its mean_return is -0.5" in printed
    assert RunDirectory(tmp_path / "run").read_versions()[0]["arguments"] == ["train", "--x", "2", "--output", "run"]


def test_a_failure_of_the_function_is_shown_as_it_is(tmp_path: Path) -> None:
    done = start_script("train", "--x", "1", "--fails-above", "0", "--output", "run", folder=tmp_path)
    assert done.returncode == FAILED
    assert "RuntimeError: too far to the right" in done.stderr


def test_importing_the_package_imports_nothing_that_a_script_may_not_need() -> None:
    program = f"import rl_framework.launch, sys; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
