"""One timed training with PPO: ours as a user would run it, and Stable-Baselines3's."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
from stable_baselines3 import PPO as SB3PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from rl_framework import LocalConnector, NativeAgent
from rl_framework.algorithms.ppo import PPO
from rl_framework.envs.tensor_env import TensorEnv
from rl_framework.envs.tensor_tasks.drive_to_origin import DiscreteDummyEnv

ENVIRONMENT = "CartPole-v1"
N_ENVS = 8
RL8_PARAMETERS: dict[str, Any] = {
    "minibatch_size": None,
    "epochs": 4,
    "gamma": 0.95,
    "gae_lambda": 0.95,
    "learning_rate": 1e-3,
    "optimizer_parameters": {"eps": 1e-8},
    "clip_range": 0.2,
    "value_loss": "huber",
    "value_loss_cap": 5.0,
    "value_coefficient": 1.0,
    "max_gradient_norm": 5.0,
    "normalize_advantages": "rollout",
    "normalize_rewards": "rollout",
}
RL8_SEQUENCE_LENGTH = 4


def rl8_parameters(horizon: int, hidden: int, *, recurrent: bool = False, **network: Any) -> dict[str, Any]:
    """Ours that stand for rl8's defaults.

    Args:
        horizon: Steps per rollout.
        hidden: Width of the two layers of each network; of the LSTM if recurrent.
        recurrent: Whether policy and value function are linear in the outputs of one LSTM.
        network: Further fields of the network's configuration.
    """
    if recurrent:
        sizes: dict[str, Any] = {"memory": "lstm", "memory_size": hidden, "hidden_sizes": ()}
    else:
        sizes = {"hidden_sizes": (hidden, hidden), "activation": "relu"}
    length = RL8_SEQUENCE_LENGTH if recurrent else None
    return {**RL8_PARAMETERS, "horizon": horizon, "sequence_length": length, "network": {**sizes, **network}}


def rl8_shape(
    n_envs: int, horizon: int, hidden: int, *, recurrent: bool = False, device: str = "cpu"
) -> tuple[Callable[[], TensorEnv], dict[str, Any]]:
    """Ours at one of rl8's shapes: environments, of which all rows are cut together, and parameters."""
    make = partial(DiscreteDummyEnv, n_envs, max_episode_steps=horizon, device=device)
    parameters = rl8_parameters(horizon, hidden, recurrent=recurrent, normalize_observations=True)
    return make, {**parameters, "device": device}


def our_rate(
    make_env: Callable[[], TensorEnv] | None, parameters: Mapping[str, Any], steps: int, folder: Path
) -> float:
    """Environment steps per second of `NativeAgent.train`, everything from its call to its return counted.

    Args:
        make_env: Gives the environments; None for eight Python CartPoles.
        parameters: Of PPO.
        steps: For how long.
        folder: Where the numbers go.
    """
    environments: Any = [gym.make(ENVIRONMENT) for _ in range(N_ENVS)] if make_env is None else make_env()
    agent = NativeAgent(PPO, {"device": "cpu", "seed": 0, **parameters})
    connector = LocalConnector(folder)
    begin = time.perf_counter()
    summary = agent.train(environments, steps, connector=connector, vectorization="serial", progress_bar=False)
    return summary.taken_timesteps / (time.perf_counter() - begin)


def sb3_rate(parameters: Mapping[str, Any], steps: int) -> float:
    """Environment steps per second of building Stable-Baselines3's model and of its `learn`."""
    env = DummyVecEnv([partial(gym.make, ENVIRONMENT) for _ in range(N_ENVS)])
    begin = time.perf_counter()
    model = SB3PPO("MlpPolicy", env, device="cpu", seed=0, **parameters)
    model.learn(steps)
    rate = model.num_timesteps / (time.perf_counter() - begin)
    env.close()
    return rate
