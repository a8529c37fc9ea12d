from __future__ import annotations

import sys

import numpy as np
import pytest

from rl_framework.errors import InvalidInputError
from rl_framework.evaluation.comparison import compare
from tests.evaluation.test_evaluation import evaluation


def test_the_numbers_are_those_of_the_two_samples() -> None:
    result = compare(evaluation([1.0, 2.0, 3.0]), evaluation([0.0, 2.0]))
    assert [mean.value for mean in result.means] == [2.0, 1.0]
    assert [iqm.value for iqm in result.iqms] == [2.0, 1.0]
    assert result.difference.value == 1.0
    assert result.improvement.value == pytest.approx(0.75)
    assert result.episodes == (3, 2)


def test_plain_returns_are_taken_too() -> None:
    lists, arrays = compare([1.0, 2.0], [0.0, 4.0]), compare(np.array([1.0, 2.0]), np.array([0.0, 4.0]))
    assert lists == arrays == compare(evaluation([1.0, 2.0]), evaluation([0.0, 4.0]))


def test_a_clear_winner_has_intervals_that_say_so() -> None:
    rng = np.random.default_rng(0)
    result = compare(rng.normal(10.0, 1.0, 100), rng.normal(0.0, 1.0, 100))
    assert result.improvement.value == 1.0
    assert result.difference.interval.low > 9.0


def test_two_samples_of_the_same_leave_it_open() -> None:
    rng = np.random.default_rng(0)
    result = compare(rng.normal(size=100), rng.normal(size=100))
    assert result.difference.interval.low < 0.0 < result.difference.interval.high
    assert result.improvement.interval.low < 0.5 < result.improvement.interval.high


def test_the_table_is_aligned_and_says_everything() -> None:
    lines = str(compare([1.0, 2.0], [100.0, 200.0, 300.0], names=("ours", "theirs"))).splitlines()
    assert len(lines) == 7
    assert "mean return of ours (2 episodes)" in lines[1]
    assert "200.00" in lines[2]
    assert "P(ours > theirs)" in lines[6]
    assert {len(line) for line in lines} == {len(lines[0])}


def test_the_table_is_printed_as_plain_text_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    result = compare([1.0], [2.0])
    result.print_table()
    assert capsys.readouterr().out == f"{result}\n"


def test_on_a_terminal_names_are_printed_as_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    compare([1.0], [2.0], names=("[red]a", "b")).print_table()
    assert "mean return of [red]a" in capsys.readouterr().out


@pytest.mark.parametrize("returns", [[], [[1.0]], [float("nan")]])
def test_what_are_no_returns_is_refused(returns: list[float]) -> None:
    with pytest.raises(InvalidInputError):
        compare(returns, [1.0])


def test_three_names_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="two names"):
        compare([1.0], [2.0], names=("a", "b", "c"))  # type: ignore[arg-type]
