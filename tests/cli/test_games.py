"""Games of several agents on the command line: trained, evaluated, recorded and resumed by their names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rl_framework import Evaluation, NativeAgent, load_agent
from rl_framework.cli.training import default_output, training_basis
from rl_framework.testing.agent_contract import assert_same_files
from tests.cli.commands import SMALL, fail, succeed, timesteps
from tests.envs.unity.peer.players import make_player

SPREAD = "pettingzoo:mpe/simple_spread?N=2&max_cycles=8"
NATIVE = ("-a", "native:PPO", "-P", "horizon=8", "-P", "network={'hidden_sizes': [8]}", "--seed", "1")


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in two games of two agents each."""
    pytest.importorskip("mpe2")
    folder = tmp_path_factory.mktemp("runs") / "spread"
    succeed(
        *("train", SPREAD, *NATIVE, "-n", "96", "-o", folder, "--n-envs", "2", "--vectorization", "serial"),
        *("--checkpoint-every", "32", "--evaluate-episodes", "4", "--video"),
    )
    return folder


def test_a_game_is_trained_in_evaluated_and_recorded(spread: Path) -> None:
    assert timesteps(spread) == 96
    evaluation = Evaluation.from_dict(json.loads((spread / "results.json").read_text()))
    assert evaluation.environment_id == SPREAD
    assert evaluation.lengths.tolist() == [8, 8, 8, 8]
    assert {name: len(own.returns) for name, own in evaluation.by_agent().items()} == {"agent_0": 2, "agent_1": 2}
    assert (spread / "replay.mp4").stat().st_size > 0


def test_a_saved_agent_finds_its_game_again(spread: Path, tmp_path: Path) -> None:
    printed = json.loads(succeed("evaluate", spread, "--episodes", "4", "--seed", "1", "--json"))
    assert printed["returns"] == json.loads((spread / "results.json").read_text())["returns"]
    told = succeed("evaluate", spread, "--episodes", "4", "--seed", "1").splitlines()
    assert [line.split(":")[0] for line in told if line.startswith("  ")] == ["  agent_0", "  agent_1"]
    succeed("record", spread, "-o", tmp_path / "game.gif", "--max-steps", "3")
    assert (tmp_path / "game.gif").stat().st_size > 0


def test_an_interrupted_run_in_a_game_is_resumed(spread: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(spread, tmp_path / "run"))
    shutil.rmtree(run / "agent")
    shutil.rmtree(max((run / "checkpoints").glob("step_*")))
    assert timesteps(run) == 64
    assert "Going on from" in succeed("resume", run)
    assert timesteps(run) == 96
    resumed, whole = (load_agent(one) for one in (run, spread))
    assert isinstance(resumed, NativeAgent)
    assert isinstance(whole, NativeAgent)
    assert_same_files(resumed, whole, tmp_path / "compared")


def test_agents_of_stable_baselines_play_games_too(tmp_path: Path) -> None:
    pytest.importorskip("mpe2")
    succeed("train", SPREAD, "-n", "128", "-o", tmp_path / "run", "--evaluate-episodes", "2", *SMALL)
    assert timesteps(tmp_path / "run") == 128


def test_a_unity_game_is_trained_in_and_evaluated(tmp_path: Path) -> None:
    pytest.importorskip("mlagents_envs")
    game = make_player(tmp_path / "game", agents=2, horizons=(9,))
    succeed(
        "train",
        f"unity:{game.with_suffix('')}",
        *NATIVE,
        "-n",
        "64",
        "-o",
        tmp_path / "run",
        "--evaluate-episodes",
        "2",
    )
    assert timesteps(tmp_path / "run") == 64
    assert len(json.loads(succeed("evaluate", tmp_path / "run", "--episodes", "2", "--json"))["returns"]) == 2


def test_games_that_are_not_there_are_bad_input(tmp_path: Path) -> None:
    pytest.importorskip("mpe2")
    pytest.importorskip("mlagents_envs")
    words = ("-n", "64", "-o", tmp_path / "run")
    assert "Did you mean 'simple_spread'" in fail("train", "pettingzoo:mpe/simple_spred", *words)
    assert "no Unity player" in fail("train", f"unity:{tmp_path / 'nowhere'}", *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ("CartPole-v1", "cartpole-v1-ppo"),
        ("pettingzoo:mpe/simple_spread?N=5", "pettingzoo-mpe-simple_spread-n-5-ppo"),
        ("unity:/games/My Game", "unity-games-my-game-ppo"),
    ],
)
def test_a_run_without_a_folder_gets_one_that_any_file_system_takes(environment: str, folder: str) -> None:
    assert default_output(training_basis(None, environment, None, 100)) == Path("runs") / folder
