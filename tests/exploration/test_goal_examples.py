"""The examples with goals run, with smaller budgets, and say what they promise to."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch

from exploration import goal_selection, hindsight
from rl_framework import MEGAConfig, ReplayPart
from tests.exploration.test_exploration import BUDGET, EXPLORATION, run_script
from tests.exploration.test_research_verbs import lines_of_code

STORIES = {
    "goal_selection": (re.compile(r"(.*) goals, \d+ steps: entropy [\d.]+, success (\d+)%"), 12),
    "hindsight": (re.compile(r"relabel=(\w+): (\d+)% of the goals of 10 bits are met"), 2),
}


@pytest.mark.parametrize("story", STORIES)
def test_the_example_runs_and_prints_what_it_learned(
    story: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BUDGET, "RL_FRAMEWORK_EXPLORATION_TIMESTEPS", "1200")
    done = run_script(EXPLORATION / f"{story}.py", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    pattern, n_lines = STORIES[story]
    found = pattern.findall(done.stdout)
    assert len(found) == n_lines
    assert len({kind for kind, _ in found}) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("story", STORIES)
def test_the_example_takes_less_than_eighty_lines_of_code(story: str) -> None:
    assert 30 < len(lines_of_code(EXPLORATION / f"{story}.py")) < 80


def test_entropy_is_that_of_the_cells_that_were_seen() -> None:
    learner = goal_selection.joined(MEGAConfig(), seed=0)
    for _ in range(30):
        learner.collect()
    buffer = learner.parts.get(ReplayPart).buffer
    rows = torch.arange(len(buffer))
    cells = torch.tensor([[0.1, 0.0], [0.3, 0.4], [1.2, 0.0], [5.7, 2.1]])[rows % 4]
    buffer.write("next_observations.achieved_goal", rows, cells)
    expected = -(0.5 * math.log(0.5) + 2 * 0.25 * math.log(0.25))
    assert goal_selection.entropy(learner) == pytest.approx(expected, abs=1e-5)


def test_the_maze_has_one_long_way() -> None:
    layout = goal_selection.maze(1).layout
    cell, seen = layout.start, {layout.start}
    while cell != layout.goal:
        (cell,) = [each for each in layout.neighbours(cell) if each not in seen]
        seen.add(cell)
    assert len(seen) == 15  # whose entropy is at most log 15


def test_only_relabelling_tells_the_learners_of_bits_apart() -> None:
    learners = [hindsight.joined(relabel, seed=0) for relabel in (None, "future_4")]
    assert [learner.parts.get(ReplayPart).relabels for learner in learners] == [False, True]
    states = [learner.parts["rule"].state_dict() for learner in learners]
    assert str(states[0]) == str(states[1])
