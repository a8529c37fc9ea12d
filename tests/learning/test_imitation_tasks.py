"""CartPole-v1 must be learned from 50 recorded episodes of an expert, over several seeds.

`make test-learning` runs these; the table is `benchmarks/results/learning.json`. The budgets were set from trials with
other seeds and an expert that was scripted: GAIL was at 500 from 60,000 steps on, AIRL between 441 and 500 at 100,000;
SQIL stood between 361 and 500 after 60,000 and fell later with a larger gamma; density stood between 126 and 353.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from imitation.util.networks import RunningNorm
from stable_baselines3 import DQN, PPO

from rl_framework.agent.imitation.behavioural_cloning import BehaviouralCloningAgent
from rl_framework.agent.imitation.imitation.agent import ImitationAgent
from rl_framework.agent.imitation_learning_agent import ILAgent
from rl_framework.agent.reinforcement.stable_baselines.agent import StableBaselinesAgent
from rl_framework.agent.reinforcement.stable_baselines.normalization import Normalization
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.functional.schedules import LinearSchedule
from tests.learning.learning_table import SEEDS, measured, write_row

ENVIRONMENT = "CartPole-v1"
N_ENVS = 8
RANDOM_PLAY = 22.0


@dataclass(frozen=True, kw_only=True)
class Expert:
    """Who is imitated, and what was recorded of it."""

    agent: StableBaselinesAgent
    episodes: EpisodeSequence


@dataclass(frozen=True, kw_only=True)
class Task:
    """Who learns from the recordings, for how long, and what return counts as learned."""

    name: str
    make_agent: Callable[[int, Expert], ILAgent]
    total_timesteps: int
    solved: float
    n_envs: int = N_ENVS
    n_episodes: int = 50

    def __str__(self) -> str:
        return self.name


# What rl-baselines3-zoo's PPO for CartPole has, but for shorter rollouts; gamma as in the library's own examples.
GENERATOR: dict[str, Any] = {
    "n_steps": 256,
    "batch_size": 64,
    "n_epochs": 5,
    "ent_coef": 0.0,
    "gamma": 0.95,
    "learning_rate": 4e-4,
}
DISCRIMINATOR = {"demo_batch_size": 1024, "gen_replay_buffer_capacity": 512, "n_disc_updates_per_round": 8}
# What the library's page on AIRL changes of that. With GAIL's settings one seed of three ended at 10.
AIRL_GENERATOR = {**GENERATOR, "learning_rate": 5e-4, "clip_range": 0.1, "vf_coef": 0.1}
AIRL_DISCRIMINATOR = {**DISCRIMINATOR, "demo_batch_size": 2048, "n_disc_updates_per_round": 16}


def adversarial(
    algorithm: str, parameters: dict[str, Any], generator: dict[str, Any]
) -> Callable[[int, Expert], ILAgent]:
    return lambda seed, _: ImitationAgent(
        algorithm,
        parameters,
        generator_class=PPO,
        generator_parameters=generator,
        reward_net_parameters={"normalize_input_layer": RunningNorm},
        allow_variable_horizon=True,
        seed=seed,
    )


def native_cloning(seed: int, _: Expert) -> ILAgent:
    return BehaviouralCloningAgent(algorithm_parameters={"seed": seed})


def library_cloning(seed: int, _: Expert) -> ILAgent:
    return ImitationAgent("BC", seed=seed)


def dagger(seed: int, expert: Expert) -> ILAgent:
    return ImitationAgent("DAgger", expert=expert.agent, seed=seed)


def sqil(seed: int, _: Expert) -> ILAgent:
    parameters = {
        "learning_rate": LinearSchedule(1e-3, 0.0),
        "gamma": 0.95,
        "batch_size": 128,
        "buffer_size": 100_000,
        "learning_starts": 1000,
        "target_update_interval": 1000,
        "train_freq": 4,
        "gradient_steps": 1,
        "exploration_fraction": 0.1,
        "exploration_final_eps": 0.02,
    }
    return ImitationAgent("SQIL", generator_class=DQN, generator_parameters=parameters, seed=seed)


def density(seed: int, _: Expert) -> ILAgent:
    return ImitationAgent(
        "density",
        {"standardise_inputs": False, "kernel_bandwidth": 0.3},
        generator_class=PPO,
        generator_parameters={
            "learning_rate": LinearSchedule(1e-3, 0.0),
            "clip_range": LinearSchedule(0.2, 0.0),
            "n_steps": 32,
            "batch_size": 256,
            "gae_lambda": 0.8,
            "gamma": 0.98,
            "n_epochs": 20,
        },
        normalization=Normalization(observations=False),
        allow_variable_horizon=True,
        seed=seed,
    )


TASKS = [
    Task(name="native BC", make_agent=native_cloning, total_timesteps=250_000, solved=475, n_envs=0),
    Task(name="BC", make_agent=library_cloning, total_timesteps=250_000, solved=475, n_envs=0),
    # Every environment step is one label of the expert.
    Task(name="DAgger", make_agent=dagger, total_timesteps=5_000, solved=490, n_episodes=0),
    Task(name="GAIL", make_agent=adversarial("GAIL", DISCRIMINATOR, GENERATOR), total_timesteps=100_000, solved=450),
    Task(name="SQIL", make_agent=sqil, total_timesteps=60_000, solved=300, n_envs=1),
    Task(name="density", make_agent=density, total_timesteps=50_000, solved=3 * RANDOM_PLAY),
    Task(
        name="AIRL",
        make_agent=adversarial("AIRL", AIRL_DISCRIMINATOR, AIRL_GENERATOR),
        total_timesteps=100_000,
        solved=4 * RANDOM_PLAY,
    ),
]


@pytest.fixture(scope="module")
def expert() -> Expert:
    parameters = {"n_steps": 128, "batch_size": 256, "n_epochs": 10, "gae_lambda": 0.95, "gamma": 0.99, "seed": 0}
    schedules = {"learning_rate": LinearSchedule(2e-3, 0.0), "clip_range": LinearSchedule(0.2, 0.0)}
    agent = StableBaselinesAgent(PPO, {**parameters, **schedules})
    agent.train(ENVIRONMENT, 100_000, n_envs=N_ENVS, progress_bar=False)
    episodes = EpisodeSequence.from_agent(agent, ENVIRONMENT, 50, seed=0, deterministic=True)
    assert all(episode.total_reward == 500 for episode in episodes)
    return Expert(agent=agent, episodes=episodes)


@pytest.mark.learning
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("task", TASKS, ids=str)
def test_task_is_learned_from_recordings(task: Task, expert: Expert) -> None:
    """Every seed reaches the return, over episodes whose seeds were never seen."""
    rows = [train_and_evaluate(task, seed, expert) for seed in SEEDS]
    write_row(f"{task.name} on {ENVIRONMENT}, {task.n_episodes} expert episodes", task.solved, rows)
    assert min(row["mean_return"] for row in rows) >= task.solved


def train_and_evaluate(task: Task, seed: int, expert: Expert) -> dict[str, Any]:
    agent = task.make_agent(seed, expert)
    summary = agent.train(
        expert.episodes[: task.n_episodes] if task.n_episodes else None,
        task.total_timesteps,
        training_environments=ENVIRONMENT if task.n_envs else None,
        n_envs=task.n_envs or None,
        progress_bar=False,
    )
    return measured(agent, ENVIRONMENT, summary, seed)
