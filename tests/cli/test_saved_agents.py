from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rl_framework import Evaluation, RLAgent, load_agent
from rl_framework.checkpoints.manifest import Manifest
from tests.cli.commands import fail, rl_framework, succeed


@pytest.mark.parametrize("part", ["", "agent", "checkpoints", "checkpoints/step_000000000192"])
def test_every_part_of_a_run_knows_its_environment(run: Path, part: str) -> None:
    assert "CartPole-v1: mean return" in succeed("evaluate", run / part, "--episodes", "2")


def test_the_same_seed_gives_the_same_evaluation(run: Path) -> None:
    words = ("evaluate", run, "--episodes", "4", "--seed", "5", "--json")
    first, second = (Evaluation.from_dict(json.loads(succeed(*words))) for _ in range(2))
    assert first.returns.tolist() == second.returns.tolist()
    assert (len(first.returns), first.seed, first.deterministic) == (4, 5, False)


def test_deterministic_actions_are_asked_for(run: Path) -> None:
    record = json.loads(succeed("evaluate", run, "--episodes", "2", "--deterministic", "--json"))
    assert record["deterministic"] is True


def test_an_agent_without_a_run_knows_where_it_was_trained(run: Path, tmp_path: Path) -> None:
    archive = load_agent(run).save(tmp_path / "agent.zip")
    assert "CartPole-v1" in succeed("evaluate", archive, "--episodes", "2")


def test_an_agent_trained_in_environments_without_id_needs_one_named(run: Path, tmp_path: Path) -> None:
    agent = load_agent(run)
    assert isinstance(agent, RLAgent)
    agent.environment_id = None
    archive = agent.save(tmp_path / "agent.zip")
    assert "--env" in fail("evaluate", archive, "--episodes", "2")
    assert "CartPole-v1" in succeed("evaluate", archive, "--episodes", "2", "--env", "CartPole-v1")


def test_an_environment_with_other_spaces_is_refused(run: Path) -> None:
    assert "observation" in fail("evaluate", run, "--env", "Pendulum-v1")


@pytest.mark.parametrize("command", ["evaluate", "info", "resume"])
def test_a_path_with_nothing_there_is_bad_input(command: str, tmp_path: Path) -> None:
    assert "nowhere" in fail(command, tmp_path / "nowhere")


def test_a_similar_path_is_suggested(run: Path) -> None:
    assert f"Did you mean {run}?" in fail("info", run.with_name("cartpol"))


def test_a_damaged_agent_is_told(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "agent"
    shutil.copytree(run / "agent", copy)
    weights = copy / "policy.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    assert "damaged" in fail("info", copy, exit_code=1)
    assert "damaged" in fail("evaluate", copy, "--env", "CartPole-v1", exit_code=1)


def test_a_video_is_recorded(run: Path, tmp_path: Path) -> None:
    printed = succeed("record", run, "--output", tmp_path / "replay.gif", "--max-steps", "5")
    assert printed.strip() == str(tmp_path / "replay.gif")
    assert (tmp_path / "replay.gif").read_bytes().startswith(b"GIF8")


def test_a_video_needs_a_known_format(run: Path, tmp_path: Path) -> None:
    assert ".mp4" in fail("record", run, "--output", tmp_path / "replay.txt")


def test_two_agents_are_compared_in_a_table(run: Path) -> None:
    printed = succeed("compare", run, run / "checkpoints" / "step_000000000000", "--episodes", "5", "--seed", "0")
    assert "mean return of cartpole (5 episodes)" in printed
    assert "P(cartpole > step_000000000000)" in printed


def test_an_agent_compared_with_itself_is_no_better(run: Path) -> None:
    printed = succeed("compare", run / "agent", run, "--episodes", "5", "--seed", "0")
    assert next(line for line in printed.splitlines() if line.startswith("P(")).split()[3] == "0.50"


def test_agents_of_the_same_name_are_told_apart(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "cartpole")
    printed = succeed("compare", run, tmp_path / "cartpole", "--episodes", "2")
    assert f"mean return of {run} " in printed
    assert f"mean return of {tmp_path / 'cartpole'} " in printed


def test_info_tells_what_the_agent_is(run: Path) -> None:
    printed = succeed("info", run)
    for part in ("stable_baselines3.ppo.ppo:PPO", "192", "Discrete(2)", "n_steps=32", "exact", "all whole", "torch="):
        assert part in printed


def test_info_as_json_holds_the_manifest(run: Path) -> None:
    record = json.loads(succeed("info", run, "--json"))
    assert record["timesteps"] == 192
    assert record["resume_level"] == "exact"
    assert record["files"] == Manifest.read(run / "agent").files


def test_info_reads_no_weights_into_a_network(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("rl_framework.agent.catalog.load_agent")
    assert rl_framework("info", run).exit_code == 0
