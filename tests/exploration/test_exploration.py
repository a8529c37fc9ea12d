"""The scripts and the notebook run, with smaller budgets."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXPLORATION = Path(__file__).parents[2] / "exploration"
# How often each tells that what was loaded does the same, and a file that it leaves.
STORIES = {"train_rl_agent": (2, "exploration/replay.mp4"), "train_il_agent": (1, "imitation/returns.png")}
BUDGET = {"RL_FRAMEWORK_EXPLORATION_TIMESTEPS": "3000"}


def run_script(script: Path, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own, from another folder."""
    return subprocess.run(
        [sys.executable, str(script), *words],
        cwd=folder,
        env={**os.environ, **BUDGET},
        capture_output=True,
        text=True,
        check=False,
    )


def printed_by_notebook(story: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a notebook prints when it runs with the smaller budget."""
    for name, value in BUDGET.items():
        monkeypatch.setenv(name, value)
    notebook = read_notebook(story)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    return "".join(output.text for cell in notebook.cells for output in cell.get("outputs", ()) if "text" in output)


def read_notebook(story: str) -> nbformat.NotebookNode:
    """The notebook as it is stored."""
    return nbformat.read(EXPLORATION / f"{story}.ipynb", as_version=4)  # type: ignore[no-any-return, no-untyped-call]  # nbformat has half its types


def cells_of_script(story: str) -> list[tuple[str, str]]:
    """Kind and text of each cell of the script."""
    cells = []
    for chunk in re.split(r"^# %%", (EXPLORATION / f"{story}.py").read_text(), flags=re.MULTILINE)[1:]:
        head, _, body = chunk.partition("\n")
        if head.strip() == "[markdown]":
            cells.append(("markdown", re.sub(r"^# ?", "", body.strip("\n"), flags=re.MULTILINE)))
        else:
            cells.append(("code", body.strip("\n")))
    return cells


@pytest.mark.parametrize("story", STORIES)
def test_script_and_notebook_have_the_same_cells(story: str) -> None:
    notebook = read_notebook(story)
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == cells_of_script(story)


@pytest.mark.parametrize("story", STORIES)
def test_the_notebook_stores_no_outputs(story: str) -> None:
    cells = [cell for cell in read_notebook(story).cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)


@pytest.mark.parametrize("story", STORIES)
def test_the_script_tells_its_story_also_where_it_ran_before(story: str, tmp_path: Path) -> None:
    same, left = STORIES[story]
    (tmp_path / "runs" / left).parent.joinpath("checkpoints", "step_000000999999").mkdir(parents=True)
    done = run_script(EXPLORATION / f"{story}.py", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Identical returns: True") == same
    assert (tmp_path / "runs" / left).exists()


@pytest.mark.parametrize("story", STORIES)
def test_the_notebook_runs(story: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed_by_notebook(story, tmp_path, monkeypatch).count("Identical returns: True") == STORIES[story][0]


def test_the_demonstration_goes_to_its_end_and_says_when_the_agent_is_not_good_enough(tmp_path: Path) -> None:
    done = run_script(EXPLORATION / "demo.py", "--output", "demo", "--total-timesteps", "1000", folder=tmp_path)
    assert done.returncode == 1
    assert "is below 450" in done.stderr
    assert "Every single return is the same" in done.stdout
    assert (tmp_path / "demo" / "replay.mp4").exists()
