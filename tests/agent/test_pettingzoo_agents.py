"""Agents of every engine in games of several agents: recording, imitation, masks, pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stable_baselines3 as sb3
from imitation.algorithms.adversarial.gail import GAIL
from imitation.algorithms.bc import BC
from sb3_contrib import MaskablePPO

from rl_framework.agent.imitation.imitation.agent import ImitationAgent
from rl_framework.agent.reinforcement.native import NativeAgent
from rl_framework.agent.reinforcement.stable_baselines.agent import StableBaselinesAgent
from rl_framework.algorithms.ppo import PPO
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.envs.pettingzoo.source import PettingZooGame
from tests.envs.pettingzoo.small_games import Countdown, Stage

SMALL: dict[str, Any] = {"horizon": 20, "minibatch_size": 40, "epochs": 1, "seed": 0, "device": "cpu"}

QUIET: dict[str, Any] = {"progress_bar": False, "vectorization": "serial"}


@pytest.fixture(scope="module")
def agent() -> NativeAgent:
    """A native agent, trained a little."""
    trained = NativeAgent(PPO, SMALL)
    trained.train(PettingZooGame(Stage), 80, **QUIET)
    return trained


@pytest.mark.parametrize("kind", ["native", "sb3-contrib"])
def test_masked_learners_play_a_game_with_turns_by_its_rules(kind: str) -> None:
    """The game itself refuses moves that its masks forbid."""
    if kind == "native":
        learner: NativeAgent | StableBaselinesAgent = NativeAgent(PPO, SMALL)
    else:
        learner = StableBaselinesAgent(MaskablePPO, {"n_steps": 20, "batch_size": 40, "n_epochs": 1, "seed": 0})
    summary = learner.train(PettingZooGame(Countdown), 200, n_envs=2, **QUIET)
    assert summary.episodes > 10
    evaluation = learner.evaluate(PettingZooGame(Countdown), 6, seed=0)
    assert sorted(evaluation.returns) == [-1, -1, -1, 1, 1, 1]


def test_recorded_games_teach_an_imitator(agent: NativeAgent) -> None:
    demonstrations = EpisodeSequence.from_agent(agent, PettingZooGame(Stage), 6, seed=0)
    assert [len(np.asarray(episode.actions)) for episode in demonstrations] == [4] * 6
    learner = ImitationAgent(BC, {"batch_size": 8})
    learner.train(demonstrations, 32, progress_bar=False)
    assert learner.evaluate(PettingZooGame(Stage), 4, seed=0).lengths.tolist() == [4, 4, 4, 4]


def test_adversarial_imitation_trains_in_a_game(agent: NativeAgent) -> None:
    demonstrations = EpisodeSequence.from_agent(agent, PettingZooGame(Stage), 6, seed=0)
    learner = ImitationAgent(
        GAIL,
        {"demo_batch_size": 8, "gen_train_timesteps": 64},
        generator_parameters={"n_steps": 32, "batch_size": 32, "n_epochs": 1},
        allow_variable_horizon=False,
    )
    summary = learner.train(demonstrations, 128, training_environments=PettingZooGame(Stage), progress_bar=False)
    assert summary.episodes >= 30


def test_off_policy_learners_train_in_a_game() -> None:
    learner = StableBaselinesAgent(sb3.DQN, {"learning_starts": 20, "seed": 0})
    assert learner.train(PettingZooGame(Stage), 100, n_envs=2, **QUIET).episodes > 20


def test_a_game_is_filmed_as_a_whole(agent: NativeAgent, tmp_path: Path) -> None:
    reader = pytest.importorskip("imageio_ffmpeg")
    film = agent.record_video(PettingZooGame(Filmed), tmp_path / "game.mp4", n_episodes=2, seed=0)
    assert reader.count_frames_and_secs(str(film))[0] == 2 * (4 + 1)


class Filmed(Stage):
    """A stage with pictures that are large enough to be filmed."""

    def render(self) -> Any:
        return np.full((32, 32, 3), 50 * self.steps, np.uint8)
