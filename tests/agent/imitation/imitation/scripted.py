"""Demonstrations by rules that are known to be good, and by chance."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np

from rl_framework.core.trees import stack
from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence

Rule = Callable[[Any], Any]


def cart_pole() -> gym.Env[Any, Any]:
    return gym.make("CartPole-v1")


def pendulum() -> gym.Env[Any, Any]:
    return gym.make("Pendulum-v1")


def balance(observation: Any) -> int:
    """Holds the pole of CartPole upright for 500 steps."""
    return int(observation[2] + 0.5 * observation[3] > 0)


def swing(observation: Any) -> Any:
    """Swings Pendulum about; good enough to be told from chance."""
    return np.clip(observation[2:3], -2, 2).astype(np.float32)


def several(make: Callable[[], gym.Env[Any, Any]], count: int = 2) -> Callable[[], list[gym.Env[Any, Any]]]:
    return lambda: [make() for _ in range(count)]


def play(
    make: Callable[[], gym.Env[Any, Any]], rule: Rule | None, n_episodes: int, *, max_steps: int = 60, seed: int = 0
) -> EpisodeSequence:
    """Episodes of a rule, or of random actions for None."""
    env = make()
    env.action_space.seed(seed)
    episodes = [_play_one(env, rule, max_steps, seed + number) for number in range(n_episodes)]
    env.close()
    return EpisodeSequence.from_episodes(
        episodes, observation_space=env.observation_space, action_space=env.action_space
    )


def _play_one(env: gym.Env[Any, Any], rule: Rule | None, max_steps: int, seed: int) -> Episode:
    observation, _ = env.reset(seed=seed)
    observations, actions, rewards, terminated = [observation], [], [], False
    for _ in range(max_steps):
        actions.append(env.action_space.sample() if rule is None else rule(observation))
        observation, reward, terminated, truncated, _ = env.step(actions[-1])
        observations.append(observation)
        rewards.append(float(reward))
        if terminated or truncated:
            break
    return Episode(
        observations=stack(observations),
        actions=stack([np.asarray(action, env.action_space.dtype) for action in actions]),
        rewards=np.array(rewards),
        terminated=terminated,
    )


@cache
def balanced_poles() -> EpisodeSequence:
    """Eight good episodes of CartPole, cut after 60 steps."""
    return play(cart_pole, balance, 8)


@cache
def swung_pendulums() -> EpisodeSequence:
    """Four episodes of Pendulum."""
    return play(pendulum, swing, 4)
