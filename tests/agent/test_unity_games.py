"""Agents of all engines train, evaluate, record and go on in a Unity game through the calls that they have anyway."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stable_baselines3 as sb3

from rl_framework.agent.catalog import load_agent
from rl_framework.agent.imitation.behavioural_cloning import BehaviouralCloningAgent
from rl_framework.agent.imitation.imitation.agent import ImitationAgent
from rl_framework.agent.reinforcement.native import NativeAgent
from rl_framework.agent.reinforcement.stable_baselines.agent import StableBaselinesAgent
from rl_framework.agent.reinforcement_learning_agent import RLAgent
from rl_framework.algorithms.off_policy import OffPolicy
from rl_framework.algorithms.ppo import PPO
from rl_framework.callbacks.checkpoint_schedule import CheckpointSchedule
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.envs.unity.launch import UnityLaunch
from rl_framework.envs.unity.settings import UnitySettings
from rl_framework.envs.unity.source import UnityGame
from tests.envs.unity.peer.book import read_book
from tests.envs.unity.peer.players import make_player

STEPS = 64
SENSORS = [
    {"kind": "vector", "name": "Body"},
    {"kind": "picture", "name": "Camera", "height": 36, "width": 36},
    {"kind": "buffer", "name": "Others"},
]
SMALL = {"horizon": 16, "seed": 0, "device": "cpu", "network": {"hidden_sizes": (8,)}}


def native() -> RLAgent:
    return NativeAgent(PPO, SMALL)


def stable_baselines(policy: str = "MlpPolicy") -> RLAgent:
    parameters = {"policy": policy, "n_steps": 16, "batch_size": 16, "n_epochs": 1, "seed": 0, "device": "cpu"}
    return StableBaselinesAgent(sb3.PPO, parameters)


def game(folder: Path, *, n_players: int = 1, world: dict[str, Any] | None = None, **settings: Any) -> UnityGame:
    """A game of two agents with episodes of up to 11 decisions."""
    file = make_player(folder, **{"agents": 2, "horizons": (7, 11), **(world or {})})
    launch = UnityLaunch(file=file, no_graphics=False, timeout=30.0)
    return UnityGame(UnitySettings(launch=launch, n_players=n_players, **settings))


@pytest.mark.parametrize(
    ("make_agent", "world", "settings"),
    [
        pytest.param(native, {"actions": "hybrid", "masks": True}, {}, id="native, hybrid with masks"),
        pytest.param(native, {"actions": "multi", "sensors": SENSORS}, {}, id="native, pictures"),
        pytest.param(lambda: stable_baselines("MultiInputPolicy"), {"sensors": SENSORS}, {}, id="SB3, pictures"),
        pytest.param(stable_baselines, {"actions": "hybrid"}, {"hybrid": "box"}, id="SB3, hybrid as a box"),
    ],
)
def test_agents_train_and_are_evaluated(
    make_agent: Callable[[], RLAgent], world: dict[str, Any], settings: dict[str, Any], tmp_path: Path
) -> None:
    source = game(tmp_path, world=world, **settings)
    agent = make_agent()
    summary = agent.train(source, STEPS, progress_bar=False)
    assert summary.taken_timesteps == STEPS
    assert summary.episodes > 0
    booked = len(read_book(tmp_path).episodes)
    evaluation = agent.evaluate(source, 6)
    episodes = read_book(tmp_path).episodes[booked:]
    known = [one.individual for one in episodes]
    assert all(min(abs(np.array(known) - total)) < 1e-4 for total in evaluation.returns)
    assert len(evaluation.returns) == 6


def test_an_off_policy_learner_trains(tmp_path: Path) -> None:
    agent = NativeAgent(OffPolicy, {"seed": 0, "device": "cpu", "learning_starts": 32})
    summary = agent.train(game(tmp_path), STEPS, progress_bar=False)
    assert summary.taken_timesteps == STEPS


def test_n_envs_counts_players(tmp_path: Path) -> None:
    agent = native()
    agent.train(game(tmp_path), STEPS, n_envs=2, progress_bar=False)
    assert len({episode.player for episode in read_book(tmp_path).episodes}) == 2


def test_what_agents_do_is_recorded_and_imitated(tmp_path: Path) -> None:
    source = game(tmp_path / "game", world={"actions": "discrete"})
    expert = native()
    expert.train(source, STEPS, progress_bar=False)
    episodes = EpisodeSequence.from_agent(expert, source, 6, seed=1)
    assert len(episodes) == 6
    cloned = BehaviouralCloningAgent({"batch_size": 16, "seed": 0}, device="cpu")
    cloned.train(episodes, 64, progress_bar=False)
    assert len(cloned.evaluate(source, 4).returns) == 4
    adversary = ImitationAgent(
        "GAIL",
        {"demo_batch_size": 16, "n_disc_updates_per_round": 1},
        generator_parameters={"n_steps": 16, "batch_size": 16, "n_epochs": 1, "device": "cpu"},
        allow_variable_horizon=True,
    )
    adversary.train(episodes, 64, training_environments=source, progress_bar=False)
    assert adversary.evaluate(source, 2).n_envs == 2


def test_a_run_goes_on_in_a_game_that_is_named(tmp_path: Path) -> None:
    """The checkpoint holds the game's name, and the resume opens it again."""
    file = make_player(tmp_path / "game", agents=2, horizons=(7, 11))
    schedule = CheckpointSchedule(tmp_path / "run", 32)
    native().train(f"unity:{file}", 2 * STEPS, checkpoint=schedule, progress_bar=False)
    _, halfway, *_, end = sorted((tmp_path / "run").glob("step_*"))
    assert halfway != end
    resumed = load_agent(halfway)
    assert isinstance(resumed, NativeAgent)
    summary = resumed.resume(progress_bar=False)
    assert summary.resume_level == "approximate"
    assert summary.total_timesteps == 2 * STEPS
    assert len({episode.player for episode in read_book(tmp_path / "game").episodes}) == 2
