"""Environment steps per second of training: ours against the wrapped library's own.

Three comparisons, each PPO on CartPole-v1 with 8 environments, n_steps 256, batch size 256, 4 epochs:
our serial back-end against `DummyVecEnv` (with `Monitor` as `make_vec_env` adds it, and without), and our automatic
back-end against `SubprocVecEnv`. Another one for DQN, whose loop turns once per step.

Both sides run torch on one thread: for networks this small more threads only wait for each other, and on two shared
cores that made single runs differ by a fifth.
"""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from benchmarks.side_by_side import Comparison, compare, write_results
from rl_framework import StableBaselinesAgent

ENVIRONMENT = "CartPole-v1"
N_ENVS = 8
PARAMETERS: dict[str, Any] = {
    "policy": "MlpPolicy", "n_steps": 256, "batch_size": 256, "n_epochs": 4, "device": "cpu"
}  # fmt: skip
DQN_PARAMETERS: dict[str, Any] = {
    "policy": "MlpPolicy", "buffer_size": 50_000, "learning_starts": 500, "device": "cpu"
}  # fmt: skip
STEPS = 20_480
DQN_STEPS = 4_000
PAIRS = 15  # single runs differ by a tenth on a shared machine, so the median needs many


def make_environments(count: int) -> list[gym.Env[Any, Any]]:
    """Fresh environments."""
    return [gym.make(ENVIRONMENT) for _ in range(count)]


def train_agent(algorithm_class: type[BaseAlgorithm], parameters: dict[str, Any], n_envs: int, steps: int) -> float:
    """Steps per second of `agent.train`, everything from its call to its return counted."""
    environments = make_environments(n_envs)
    agent = StableBaselinesAgent(algorithm_class=algorithm_class, algorithm_parameters=parameters)
    start = time.perf_counter()
    summary = agent.train(environments, steps)
    return summary.taken_timesteps / (time.perf_counter() - start)


def train_model(algorithm_class: type[BaseAlgorithm], parameters: dict[str, Any], env: VecEnv, steps: int) -> float:
    """Steps per second of building a model and of its `learn`."""
    start = time.perf_counter()
    model = algorithm_class(env=env, **parameters)
    model.learn(steps)
    rate = model.num_timesteps / (time.perf_counter() - start)
    env.close()
    return rate


def in_subprocesses() -> float:
    """The library's way to more than one process; its start-up is not counted."""
    env = make_vec_env(ENVIRONMENT, n_envs=N_ENVS, vec_env_cls=SubprocVecEnv)
    return train_model(PPO, PARAMETERS, env, STEPS)


def measure() -> list[Comparison]:
    """All comparisons of this file."""
    ours = lambda: train_agent(PPO, PARAMETERS, N_ENVS, STEPS)  # noqa: E731
    return [
        compare(
            "PPO, 8 environments: agent.train against DummyVecEnv with Monitor (make_vec_env)",
            ours,
            lambda: train_model(PPO, PARAMETERS, make_vec_env(ENVIRONMENT, n_envs=N_ENVS), STEPS),
            unit="steps/s",
            required_ratio=0.97,
            pairs=PAIRS,
        ),
        compare(
            "PPO, 8 environments: agent.train against bare DummyVecEnv",
            ours,
            lambda: train_model(PPO, PARAMETERS, bare_vec_env(N_ENVS), STEPS),
            unit="steps/s",
            required_ratio=0.97,
            pairs=PAIRS,
        ),
        compare(
            "DQN, 1 environment: agent.train against bare DummyVecEnv",
            lambda: train_agent(DQN, DQN_PARAMETERS, 1, DQN_STEPS),
            lambda: train_model(DQN, DQN_PARAMETERS, bare_vec_env(1), DQN_STEPS),
            unit="steps/s",
            required_ratio=0.97,
            pairs=PAIRS,
        ),
        compare(
            "PPO, 8 environments: agent.train, automatic back-end, against SubprocVecEnv",
            ours,
            in_subprocesses,
            unit="steps/s",
            required_ratio=2.0,
            pairs=5,
        ),
    ]


def bare_vec_env(n_envs: int) -> VecEnv:
    """The library's vector environment without episode statistics."""
    return DummyVecEnv([lambda: gym.make(ENVIRONMENT) for _ in range(n_envs)])


if __name__ == "__main__":
    torch.set_num_threads(1)
    write_results("training_throughput", measure())
