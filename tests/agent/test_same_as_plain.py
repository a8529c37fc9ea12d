"""Given the same episodes, an agent learns bit for bit what plain Stable-Baselines3 learns."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
import pytest
import stable_baselines3 as sb3
import torch
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from rl_framework.agent.reinforcement.stable_baselines.agent import StableBaselinesAgent
from tests.agent.cases import REPLAY, ROLLOUT


class SameEpisodes(gym.Wrapper[Any, Any, Any, Any]):
    """Opens its k-th episode with the k-th seed, whatever seed it is given; the first reset is not counted."""

    def __init__(self, env: gym.Env[Any, Any], first: int) -> None:
        super().__init__(env)
        self.first = first
        self.count = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.count += 1
        return self.env.reset(seed=self.first + self.count, options=options)


def environments(name: str, n_envs: int) -> list[gym.Env[Any, Any]]:
    return [SameEpisodes(gym.make(name), 1000 * row) for row in range(n_envs)]


@pytest.mark.parametrize(
    ("algorithm_class", "name", "n_envs", "parameters", "steps"),
    [
        (sb3.PPO, "CartPole-v1", 2, ROLLOUT, 640),
        (sb3.A2C, "CartPole-v1", 2, {"seed": 0}, 300),
        (sb3.DQN, "CartPole-v1", 1, {**REPLAY, "exploration_fraction": 0.5, "target_update_interval": 50}, 600),
        (sb3.SAC, "Pendulum-v1", 1, REPLAY, 300),
        (sb3.TD3, "Pendulum-v1", 2, REPLAY, 300),
    ],
)
def test_same_weights_as_plain_stable_baselines(
    algorithm_class: Any, name: str, n_envs: int, parameters: dict[str, Any], steps: int
) -> None:
    agent = StableBaselinesAgent(algorithm_class, {"policy": "MlpPolicy", **parameters})
    agent.train(environments(name, n_envs), steps, vectorization="serial", progress_bar=False)
    plain_envs = environments(name, n_envs)
    plain = algorithm_class(
        env=DummyVecEnv([lambda env=env: Monitor(env) for env in plain_envs]),  # type: ignore[misc]  # binds now
        **{"policy": "MlpPolicy", **copy.deepcopy(parameters)},  # it writes into what it is given
    )
    plain.learn(steps)
    for key, tensor in plain.policy.state_dict().items():
        assert torch.equal(tensor, agent.model.policy.state_dict()[key]), key


def test_same_weights_with_normalisation() -> None:
    parameters: dict[str, Any] = {**ROLLOUT, "gamma": 0.9}
    agent = StableBaselinesAgent(sb3.PPO, {"policy": "MlpPolicy", **parameters}, normalization=True)
    agent.train(environments("Pendulum-v1", 2), 1280, vectorization="serial", progress_bar=False)
    plain_envs = environments("Pendulum-v1", 2)
    venv = VecNormalize(DummyVecEnv([lambda env=env: Monitor(env) for env in plain_envs]), gamma=0.9)  # type: ignore[misc]  # binds now
    plain = sb3.PPO("MlpPolicy", venv, **copy.deepcopy(parameters))
    plain.learn(1280)
    for key, tensor in plain.policy.state_dict().items():
        assert torch.equal(tensor, agent.model.policy.state_dict()[key]), key
