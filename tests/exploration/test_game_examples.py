"""The examples with games of several agents and of Unity run, with smaller budgets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.exploration.test_exploration import (
    EXPLORATION,
    cells_of_script,
    printed_by_notebook,
    read_notebook,
    run_script,
)

# How often each tells that what was loaded does the same, and a file that it leaves.
STORIES = {
    "pettingzoo_spread": (1, "pettingzoo/team/independent_agents.json"),
    "unity_reaching": (1, "unity/agent/manifest.json"),
}


@pytest.mark.parametrize("story", STORIES)
def test_script_and_notebook_have_the_same_cells(story: str) -> None:
    notebook = read_notebook(story)
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == cells_of_script(story)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


@pytest.mark.parametrize("story", STORIES)
def test_the_script_tells_its_story(story: str, tmp_path: Path) -> None:
    same, left = STORIES[story]
    done = run_script(EXPLORATION / f"{story}.py", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Identical returns: True") == same
    assert (tmp_path / "runs" / left).exists()


@pytest.mark.parametrize("story", STORIES)
def test_the_notebook_runs(story: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed_by_notebook(story, tmp_path, monkeypatch).count("Identical returns: True") == STORIES[story][0]
