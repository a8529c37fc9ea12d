"""Environment steps per second of evaluation: ours against `evaluate_policy` with one environment.

A PPO agent on CartPole-v1, 200 episodes, once after a short training (episodes of many lengths) and once well
trained (nearly all episodes at the limit of 500 steps).
"""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from benchmarks.side_by_side import Comparison, compare, write_results
from rl_framework import StableBaselinesAgent

ENVIRONMENT = "CartPole-v1"
EPISODES = 200
PARAMETERS: dict[str, Any] = {
    "policy": "MlpPolicy", "n_steps": 32, "batch_size": 256, "n_epochs": 20, "gae_lambda": 0.8, "gamma": 0.98,
    "learning_rate": 1e-3, "device": "cpu", "seed": 0,
}  # fmt: skip


def trained_agent(steps: int) -> StableBaselinesAgent:
    """An agent after some training."""
    agent = StableBaselinesAgent(algorithm_class=PPO, algorithm_parameters=PARAMETERS)
    agent.train(ENVIRONMENT, steps, n_envs=8)
    return agent


def evaluate_agent(agent: StableBaselinesAgent, *, deterministic: bool) -> float:
    """Steps per second of `agent.evaluate`, given one environment, as users give it."""
    environment = gym.make(ENVIRONMENT)
    start = time.perf_counter()
    evaluation = agent.evaluate(environment, EPISODES, deterministic=deterministic, seed=0)
    return float(evaluation.lengths.sum()) / (time.perf_counter() - start)


def evaluate_model(agent: StableBaselinesAgent, *, deterministic: bool) -> float:
    """Steps per second of the library's own function on the same policy."""
    environment: Any = Monitor(gym.make(ENVIRONMENT))
    start = time.perf_counter()
    _, lengths = evaluate_policy(
        agent.model, environment, EPISODES, deterministic=deterministic, return_episode_rewards=True
    )
    return float(sum(lengths)) / (time.perf_counter() - start)  # type: ignore[arg-type]  # a list with that option


def measure() -> list[Comparison]:
    """All comparisons of this file."""
    comparisons = []
    for name, steps in (("after 5,000 steps", 5_000), ("after 60,000 steps", 60_000)):
        agent = trained_agent(steps)
        for deterministic in (False, True):
            comparisons.append(  # noqa: PERF401  # each line prints as it is measured
                compare(
                    f"agent.evaluate, {EPISODES} episodes, {name}, deterministic={deterministic}",
                    lambda a=agent, d=deterministic: evaluate_agent(a, deterministic=d),  # type: ignore[misc]  # binds now
                    lambda a=agent, d=deterministic: evaluate_model(a, deterministic=d),  # type: ignore[misc]  # binds now
                    unit="steps/s",
                    required_ratio=8.0,
                    pairs=5,
                )
            )
    return comparisons


if __name__ == "__main__":
    torch.set_num_threads(1)  # as in training_throughput
    write_results("evaluation_throughput", measure())
