from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from rl_framework.algorithms.base import Algorithm, train
from rl_framework.algorithms.q_learning import QLearning, QLearningConfig
from rl_framework.callbacks.run import TrainingRun
from rl_framework.envs.serial import SerialVectorEnv
from tests.algorithms.scripted_env import rows


def optimal_values(env: Any, gamma: float) -> Any:
    """Action values by value iteration over the environment's own table of transitions."""
    transitions = env.unwrapped.P
    values = np.zeros((len(transitions), len(transitions[0])))
    for _ in range(500):
        values = np.array(
            [
                [sum(p * (r + gamma * (not over) * values[s].max()) for p, s, r, over in outcomes)
                 for outcomes in actions.values()]
                for actions in transitions.values()
            ]
        )  # fmt: skip
    return values


def trained(env: SerialVectorEnv, config: QLearningConfig, steps: int) -> QLearning:
    algorithm: QLearning = QLearning(env, config)
    as_protocol: Algorithm = algorithm
    run = TrainingRun(timesteps=0, target_timesteps=steps, callbacks=[], save=lambda _: None)
    run.conduct(lambda: train(as_protocol, run, env.reset(seed=0)))
    return algorithm


def test_a_deterministic_lake_is_learned_exactly() -> None:
    env = rows(*(gym.make("FrozenLake-v1", is_slippery=False, max_episode_steps=20) for _ in range(8)))
    config = QLearningConfig(learning_rate=1.0, gamma=0.9, epsilon=1.0, seed=0)
    algorithm = trained(env, config, 30_000)
    visited = algorithm.visits > 0
    assert visited.sum() == 11 * 4  # all but the four holes and the goal
    expected = optimal_values(gym.make("FrozenLake-v1", is_slippery=False), 0.9)
    np.testing.assert_allclose(algorithm.values[visited], expected[visited], atol=1e-12)


def test_the_cliff_is_walked_in_thirteen_steps() -> None:
    env = rows(*(gym.make("CliffWalking-v1", max_episode_steps=200) for _ in range(4)))
    algorithm = trained(env, QLearningConfig(learning_rate=0.5, gamma=1.0, seed=0), 20_000)
    walker = gym.make("CliffWalking-v1", max_episode_steps=200)
    observation, _ = walker.reset(seed=0)
    total, over = 0.0, False
    while not over:
        (action,) = algorithm.policy.act(np.array([observation]), deterministic=True).actions
        observation, reward, terminated, truncated, _ = walker.step(action)
        total, over = total + float(reward), terminated or truncated
    assert total == -13.0
