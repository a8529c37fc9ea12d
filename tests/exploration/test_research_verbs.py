"""The single-file examples in the research verbs run, with smaller budgets, and say what they promise to."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.exploration.test_exploration import EXPLORATION, run_script

SHARES = re.compile(r"([\d.]+)% won, +([\d.]+)% drawn, +([\d.]+)% lost")
STORIES = {
    "ppo_in_research_verbs": re.compile(r"steps: mean return ([\d.]+)"),
    "recurrent_ppo": re.compile(r"a return of ([\d.]+) ±"),
    "self_play": SHARES,
}


@pytest.mark.parametrize("story", STORIES)
def test_the_example_runs_and_prints_what_it_learned(story: str, tmp_path: Path) -> None:
    done = run_script(EXPLORATION / f"{story}.py", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    found = STORIES[story].findall(done.stdout)
    assert len(found) >= 2
    if story == "self_play":
        assert [sum(map(float, shares)) for shares in found] == pytest.approx([100.0] * len(found), abs=0.2)
    assert list(tmp_path.iterdir()) == []


def test_ppo_takes_less_than_sixty_lines_of_code() -> None:
    assert 30 < len(lines_of_code(EXPLORATION / "ppo_in_research_verbs.py")) < 60


def lines_of_code(script: Path) -> set[int]:
    """The lines with code on them: no comments, no empty lines, no docstrings."""
    tree = ast.parse(script.read_text(encoding="utf-8"))
    texts = [
        node.lineno + offset
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for offset in range((node.end_lineno or node.lineno) - node.lineno + 1)
    ]
    lines = enumerate(script.read_text(encoding="utf-8").splitlines(), 1)
    return {number for number, line in lines if line.strip() and not line.lstrip().startswith("#")} - set(texts)
