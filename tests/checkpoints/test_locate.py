"""Whatever folder of a run a person points at, the right saved agent is found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rl_framework.checkpoints.archive import save_archive
from rl_framework.checkpoints.locate import find_agent, step_folder
from rl_framework.errors import MissingArchiveError
from tests.checkpoints.agents import small_agent


@pytest.mark.parametrize("name", ["agent", "agent.zip"])
def test_a_saved_agent_is_itself(tmp_path: Path, name: str) -> None:
    save_archive(tmp_path / name, small_agent(1))
    assert find_agent(str(tmp_path / name)) == tmp_path / name


def test_of_checkpoints_the_latest_is_meant(tmp_path: Path) -> None:
    for timesteps in (200, 1000, 600):
        save_archive(step_folder(tmp_path, timesteps), small_agent(timesteps))
    assert find_agent(tmp_path) == tmp_path / "step_000000001000"


@pytest.mark.parametrize("damage", ["manifest.json", "policy.safetensors"])
def test_an_incomplete_checkpoint_is_passed_over(tmp_path: Path, damage: str) -> None:
    for timesteps in (200, 400):
        save_archive(step_folder(tmp_path, timesteps), small_agent(timesteps))
    (step_folder(tmp_path, 400) / damage).unlink()
    assert find_agent(tmp_path) == step_folder(tmp_path, 200)


def test_a_checkpoint_of_a_newer_format_is_not_passed_over(tmp_path: Path) -> None:
    for timesteps in (200, 400):
        save_archive(step_folder(tmp_path, timesteps), small_agent(timesteps))
    file = step_folder(tmp_path, 400) / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format_version": 99}))
    assert find_agent(tmp_path) == step_folder(tmp_path, 400)


def test_other_names_beside_checkpoints_do_not_count(tmp_path: Path) -> None:
    save_archive(step_folder(tmp_path, 200), small_agent(200))
    for name in ("step_best", ".step_000000000900.removing-x", "step_000000000800.old"):
        shutil.copytree(step_folder(tmp_path, 200), tmp_path / name)
    assert find_agent(tmp_path) == step_folder(tmp_path, 200)


@pytest.mark.parametrize(
    ("agent", "checkpoint", "expected"), [(900, 800, "agent"), (800, 800, "agent"), (5, 6, "step")]
)
def test_of_a_run_the_one_with_more_steps_is_meant(tmp_path: Path, agent: int, checkpoint: int, expected: str) -> None:
    save_archive(tmp_path / "agent", small_agent(agent))
    save_archive(step_folder(tmp_path / "checkpoints", checkpoint), small_agent(checkpoint))
    assert find_agent(tmp_path).name.startswith(expected)


@pytest.mark.parametrize("part", ["agent", "checkpoints"])
def test_a_run_may_have_only_one_of_both(tmp_path: Path, part: str) -> None:
    place = tmp_path / "agent" if part == "agent" else step_folder(tmp_path / "checkpoints", 7)
    save_archive(place, small_agent(7))
    assert find_agent(tmp_path) == place


def test_an_agent_without_all_its_files_gives_way_to_the_checkpoint(tmp_path: Path) -> None:
    save_archive(tmp_path / "agent", small_agent(9))
    save_archive(step_folder(tmp_path / "checkpoints", 7), small_agent(7))
    (tmp_path / "agent" / "policy.json").unlink()
    assert find_agent(tmp_path) == step_folder(tmp_path / "checkpoints", 7)


def test_a_folder_without_agents_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(MissingArchiveError, match=r"manifest\.json.*step_.*checkpoints.*notes\.txt"):
        find_agent(tmp_path)


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingArchiveError, match="no such file or folder"):
        find_agent(tmp_path / "nothing")
