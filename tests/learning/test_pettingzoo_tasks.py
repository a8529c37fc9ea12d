"""A game of several agents must be learned by one policy that they share, over several seeds.

The measure is the improvement over chance, `(trained - random) / |random|`: the share of chance's shortfall that is
gone, as all returns of the game are below 0. What was chosen here was chosen by trials with seeds from 100 on: a
handful at first, then 32 runs of 28 settings with the seeds 104 to 107, all but one of them on a copy of the game
that is computed for many games at once. The settings below were run there with each of these four seeds.

Seeds differ by about 0.7 of a return, as much as is to spare: the mean over seeds must have improved by so much, and no
seed by much less. When the game itself was first played with the seeds of this test, two of the three were just below.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rl_framework.agent.reinforcement.native import NativeAgent
from rl_framework.algorithms.ppo import PPO
from rl_framework.envs.opponents import ChancePolicy
from rl_framework.envs.source import open_environments
from rl_framework.evaluation.evaluate import evaluate_policy
from rl_framework.functional.schedules import LinearSchedule
from tests.learning.learning_table import SEEDS, measured, write_row

GAME = "pettingzoo:mpe/simple_spread"
AGENT_STEPS = 200_000
N_GAMES = 16
EPISODES = 900
IMPROVEMENT = 0.3
EACH = 0.25
PARAMETERS: dict[str, Any] = {
    "horizon": 25,
    "epochs": 10,
    "learning_rate": LinearSchedule(2e-3, 0.0),
    "gamma": 0.93,
    "gae_lambda": 0.85,
    "normalize_rewards": "running",
    "network": {"hidden_sizes": (128, 128), "normalize_observations": True},
    "device": "cpu",
}


@pytest.mark.learning
@pytest.mark.timeout(1500)
def test_agents_that_share_a_policy_learn_to_spread() -> None:
    by_chance = return_of_chance()
    rows = [trained(seed) for seed in SEEDS]
    wanted = by_chance + IMPROVEMENT * abs(by_chance)
    write_row("native PPO, shared by the agents of PettingZoo's simple_spread", wanted, rows)
    assert np.mean([row["mean_return"] for row in rows]) >= wanted, (rows, by_chance)
    for row in rows:
        assert row["mean_return"] >= by_chance + EACH * abs(by_chance), (row, by_chance)


def trained(seed: int) -> dict[str, Any]:
    agent = NativeAgent(PPO, {**PARAMETERS, "seed": seed})
    summary = agent.train(GAME, AGENT_STEPS, n_envs=N_GAMES, vectorization="serial", progress_bar=False)
    return measured(agent, GAME, summary, seed, episodes=EPISODES)


def return_of_chance() -> float:
    env = open_environments(GAME)
    spec = env.spec
    env.close()
    return evaluate_policy(ChancePolicy(spec), GAME, EPISODES, seed=1000).mean
