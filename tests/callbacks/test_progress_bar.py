from __future__ import annotations

import io
import sys

import pytest

from rl_framework.callbacks.progress_bar import ProgressBar
from tests.callbacks.scripted_runs import ScriptedTraining


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_nothing_is_shown_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    ScriptedTraining([ProgressBar()]).conduct()
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_a_terminal_shows_steps_return_and_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    ScriptedTraining([ProgressBar()], 100, report_every=50).conduct()
    last = terminal.getvalue().rsplit("\r", maxsplit=1)[-1]
    assert "100/100" in last
    assert "return 52.5" in last
    assert "steps/s" in last


def test_a_resumed_run_starts_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    ScriptedTraining([ProgressBar()], 100, timesteps=60).conduct()
    assert "60/100" in terminal.getvalue().split("\r")[1]


def test_the_line_ends_when_the_run_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)

    def fail(step: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ScriptedTraining([ProgressBar()], at_step=fail).conduct()
    assert terminal.getvalue().endswith("\n")


def test_it_can_be_asked_for_anywhere(capsys: pytest.CaptureFixture[str]) -> None:
    ScriptedTraining([ProgressBar(shown=True)], 100).conduct()
    assert "100/100" in capsys.readouterr().err
