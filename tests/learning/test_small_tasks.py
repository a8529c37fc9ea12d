"""Small tasks must be solved, over several seeds; the returns and their intervals are written down.

`make test-learning` runs these; the table is `benchmarks/results/learning.json`. The budgets were set from trials with
other seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import stable_baselines3 as sb3

from rl_framework.agent.reinforcement.native import NativeAgent
from rl_framework.agent.reinforcement.stable_baselines.agent import StableBaselinesAgent
from rl_framework.agent.reinforcement_learning_agent import RLAgent
from rl_framework.algorithms.q_learning import QLearning
from rl_framework.functional.schedules import LinearSchedule
from tests.learning.learning_table import SEEDS, measured, write_row


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task, who learns it, and what return counts as solved."""

    name: str
    environment: str
    make_agent: Callable[[int], RLAgent]
    total_timesteps: int
    n_envs: int
    solved: float

    def __str__(self) -> str:
        return self.name


def stable(algorithm_class: Any, parameters: dict[str, Any], **options: Any) -> Callable[[int], RLAgent]:
    return lambda seed: StableBaselinesAgent(algorithm_class, {**parameters, "seed": seed}, **options)


# The preset `cartpole-ppo`. The settings published with rl-baselines3-zoo reached 443.6, 500 and 500 with these seeds.
PPO_CART_POLE = {
    "n_steps": 128,
    "batch_size": 256,
    "n_epochs": 10,
    "gae_lambda": 0.95,
    "gamma": 0.99,
    "learning_rate": LinearSchedule(2e-3, 0.0),
    "clip_range": LinearSchedule(0.2, 0.0),
}
DQN_CART_POLE = {
    "learning_rate": 2.3e-3,
    "batch_size": 64,
    "buffer_size": 100_000,
    "learning_starts": 1000,
    "target_update_interval": 10,
    "train_freq": 256,
    "gradient_steps": 128,
    "exploration_fraction": 0.16,
    "exploration_final_eps": 0.04,
    "policy_kwargs": {"net_arch": [256, 256]},
}
PPO_PENDULUM = {
    "n_steps": 1024,
    "gae_lambda": 0.95,
    "gamma": 0.9,
    "n_epochs": 10,
    "learning_rate": 1e-3,
    "use_sde": True,
    "sde_sample_freq": 4,
}

TASKS = [
    Task(
        name="PPO on CartPole-v1",
        environment="CartPole-v1",
        make_agent=stable(sb3.PPO, PPO_CART_POLE),
        total_timesteps=100_000,
        n_envs=8,
        solved=450,
    ),
    Task(
        name="DQN on CartPole-v1",
        environment="CartPole-v1",
        make_agent=stable(sb3.DQN, DQN_CART_POLE),
        total_timesteps=50_000,
        n_envs=1,
        solved=60,  # random play gives 22; plain Stable-Baselines3 gave 500, 500 and 192 here, with seeds 1 to 3
    ),
    Task(
        name="SAC on Pendulum-v1",
        environment="Pendulum-v1",
        make_agent=stable(sb3.SAC, {"learning_rate": 1e-3, "policy_kwargs": {"net_arch": [64, 64]}}),
        total_timesteps=8_000,
        n_envs=1,
        solved=-350,  # random play gives -1200
    ),
    Task(
        name="PPO with normalisation on Pendulum-v1",
        environment="Pendulum-v1",
        make_agent=stable(sb3.PPO, PPO_PENDULUM, normalization=True),
        total_timesteps=100_000,
        n_envs=4,
        solved=-800,  # random play gives -1200
    ),
    Task(
        name="QLearning on Taxi-v4",
        environment="Taxi-v4",
        make_agent=lambda seed: NativeAgent(QLearning, {"seed": seed, "learning_rate": 0.3}),
        total_timesteps=400_000,
        n_envs=4,
        solved=7.0,
    ),
]


@pytest.mark.learning
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("task", TASKS, ids=str)
def test_task_is_solved(task: Task) -> None:
    """Every seed reaches the return, over episodes whose seeds were never seen."""
    rows = [train_and_evaluate(task, seed) for seed in SEEDS]
    write_row(task.name, task.solved, rows)
    assert min(row["mean_return"] for row in rows) >= task.solved


def train_and_evaluate(task: Task, seed: int) -> dict[str, Any]:
    agent = task.make_agent(seed)
    summary = agent.train(task.environment, task.total_timesteps, n_envs=task.n_envs, progress_bar=False)
    return measured(agent, task.environment, summary, seed)
