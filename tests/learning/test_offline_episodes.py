"""CartPole-v1 must be learned from 100 recorded episodes of mixed quality far better than by copying them.

`make test-learning` runs this; the table is `benchmarks/results/learning.json`. Each episode has a player of its own, a
linear controller that is drawn: some are near to one that balances, most are not. For each of three seeds other players
are recorded, and other networks learn. Both agents see the recordings equally often, and are measured in the same
episodes by their most probable actions.

The players were chosen so that there is something to gain: where all are one good controller with more or less noise,
the most probable actions of their copy are that controller's, and copying reaches 500.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rl_framework.agent.imitation.behavioural_cloning import BehaviouralCloningAgent
from rl_framework.agent.imitation.episode_trainer import EpisodeTrainerAgent
from rl_framework.agent.imitation_learning_agent import ILAgent
from rl_framework.core.reports import TrainingSummary
from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence
from tests.learning.learning_table import SEEDS, measured, write_row

ENVIRONMENT = "CartPole-v1"
N_EPISODES = 100
PASSES = 30
BETTER = 1.5
BALANCING = np.array([0.05, 0.1, 1.0, 0.5])
HOW_NEAR = 0.3
"""How far controllers are shifted towards the balancing one, in standard deviations of their weights."""


@pytest.mark.learning
@pytest.mark.timeout(1500)
def test_offline_learning_does_better_than_copying_the_same_episodes() -> None:
    rows = [learned_and_copied(seed) for seed in SEEDS]
    copied = float(np.mean([row["copied_return"] for row in rows]))
    name = f"EpisodeTrainerAgent on {ENVIRONMENT}, offline from {N_EPISODES} mixed episodes"
    write_row(name, BETTER * copied, rows)
    for row in rows:
        assert 60 <= row["recorded_return"] <= 100
        assert row["mean_return"] >= BETTER * row["copied_return"]


def learned_and_copied(seed: int) -> dict[str, Any]:
    """One seed's row: the return of the agent that learns from rewards, of the one that copies, of the recordings."""
    episodes = mixed_episodes(seed)
    copy, agent = BehaviouralCloningAgent({"seed": seed}), EpisodeTrainerAgent({"seed": seed, "device": "cpu"})
    copied = measured(copy, ENVIRONMENT, taught(copy, episodes), seed)
    learned = measured(agent, ENVIRONMENT, taught(agent, episodes), seed)
    recorded = float(np.mean([episode.total_reward for episode in episodes]))
    return {**learned, "copied_return": copied["mean_return"], "recorded_return": recorded}


def taught(agent: ILAgent, episodes: EpisodeSequence) -> TrainingSummary:
    return agent.train(episodes, PASSES * episodes.n_transitions, progress_bar=False)


def mixed_episodes(seed: int) -> EpisodeSequence:
    """Episodes of players of whom no two are alike."""
    rng = np.random.default_rng(seed)
    env = gym.make(ENVIRONMENT)
    episodes = [played(env, rng) for _ in range(N_EPISODES)]
    return EpisodeSequence.from_episodes(
        episodes, observation_space=env.observation_space, action_space=env.action_space
    )


def played(env: gym.Env[Any, Any], rng: np.random.Generator) -> Episode:
    """An episode of a player who is drawn."""
    controller = HOW_NEAR * BALANCING / np.linalg.norm(BALANCING) + rng.normal(size=4)
    seen, done, rewards = [env.reset(seed=int(rng.integers(2**31)))[0]], [], []
    terminated = truncated = False
    while not (terminated or truncated):
        done.append(int(controller @ seen[-1] > 0))
        observation, reward, terminated, truncated, _ = env.step(np.int64(done[-1]))
        seen.append(observation)
        rewards.append(float(reward))
    return Episode(
        observations=np.stack(seen), actions=np.array(done), rewards=np.array(rewards), terminated=terminated
    )
