"""Evaluating and recording a policy that plays all agents of a game."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from rl_framework.core.policy import PolicyOutput
from rl_framework.core.seeding import derive_seeds
from rl_framework.envs.pettingzoo.source import PettingZooGame
from rl_framework.evaluation.evaluate import evaluate_policy
from rl_framework.rollouts.play import play_episodes
from tests.envs.pettingzoo.uneven_games import Duel

GAME = PettingZooGame(Duel)


class PaperForTheLeft:
    """Throws paper in even rows, and rock in odd ones."""

    def __init__(self) -> None:
        self.observation_space: gym.Space[Any] = spaces.Box(0.0, 1.0, (3,), np.float32)
        self.action_space: gym.Space[Any] = spaces.Discrete(3)

    def act(self, observations: Any, state: Any = None, **_: Any) -> PolicyOutput:
        return PolicyOutput(1 - np.arange(len(observations)) % 2, state)


def test_every_agent_has_its_own_episodes() -> None:
    result = evaluate_policy(PaperForTheLeft(), GAME, 8, seed=3, n_envs=2)
    assert result.agents == ("left", "right") * 4
    assert {name: part.returns.tolist() for name, part in result.by_agent().items()} == {
        "left": [3.0] * 4,
        "right": [-3.0] * 4,
    }
    assert result.n_envs == 4


@pytest.mark.parametrize(("asked", "played"), [(1, 2), (5, 6), (6, 6)])
def test_the_number_of_episodes_is_rounded_up_to_whole_games(asked: int, played: int) -> None:
    result = evaluate_policy(PaperForTheLeft(), GAME, asked, n_envs=2)
    assert len(result.returns) == played
    assert {len(part.returns) for part in result.by_agent().values()} == {played // 2}


@pytest.mark.parametrize("n_envs", [1, 2, 5])
def test_the_kth_game_has_the_same_seed_whatever_the_number_of_copies(n_envs: int) -> None:
    result = evaluate_policy(PaperForTheLeft(), GAME, 6, seed=3, n_envs=n_envs)
    games = derive_seeds(3, 6)[::2]
    assert result.seeds == tuple(seed for seed in games for _ in range(2))


def test_each_agent_gives_an_episode_of_its_own_to_a_recording() -> None:
    episodes = list(play_episodes(PaperForTheLeft(), GAME, 3, seed=3, n_envs=1))
    assert [episode.actions.tolist() for episode in episodes] == [[1] * 3, [0] * 3, [1] * 3]
    assert [float(np.sum(np.asarray(episode.rewards))) for episode in episodes] == [3.0, -3.0, 3.0]
