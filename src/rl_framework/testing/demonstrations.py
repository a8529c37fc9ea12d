"""Small recordings to learn from: of any spaces, and of a scripted controller that balances CartPole's pole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from rl_framework.core.trees import Tree, stack
from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence


def recordings(
    observation_space: gym.Space[Any],
    action_space: gym.Space[Any],
    rule: Callable[[Tree], Tree] | None = None,
    lengths: Sequence[int] = (20, 30, 9),
) -> EpisodeSequence:
    """Random observations, and what a rule says to do there; the same at every call.

    Args:
        observation_space: What is observed.
        action_space: What is done.
        rule: The action for an observation; a random one for None.
        lengths: Steps of each episode.
    """
    observation_space.seed(0)
    action_space.seed(0)
    episodes = []
    for length in lengths:
        seen = [observation_space.sample() for _ in range(length + 1)]
        done = [action_space.sample() if rule is None else rule(one) for one in seen[:-1]]
        episodes.append(Episode(observations=stack(seen), actions=stack(done), rewards=None, terminated=True))
    return EpisodeSequence.from_episodes(episodes, observation_space=observation_space, action_space=action_space)


def balance_pole(observation: npt.NDArray[Any]) -> int:
    """What keeps CartPole's pole up for all 500 steps: push to where it falls, a linear feedback of the state."""
    position, velocity, angle, angular_velocity = observation
    return int(angle + 0.5 * angular_velocity + 0.05 * position + 0.1 * velocity > 0)


@cache
def cart_pole_episodes(count: int) -> EpisodeSequence:
    """Episodes of CartPole-v1 as `balance_pole` plays them, each of them worth 500; the same at every call."""
    env = gym.make("CartPole-v1")
    episodes = [_play(env, seed) for seed in range(count)]
    return EpisodeSequence.from_episodes(
        episodes, observation_space=env.observation_space, action_space=env.action_space
    )


def _play(env: gym.Env[Any, Any], seed: int) -> Episode:
    seen, done, rewards = [env.reset(seed=seed)[0]], [], []
    terminated = truncated = False
    while not (terminated or truncated):
        done.append(balance_pole(seen[-1]))
        observation, reward, terminated, truncated, _ = env.step(np.int64(done[-1]))
        seen.append(observation)
        rewards.append(float(reward))
    return Episode(
        observations=np.stack(seen), actions=np.array(done), rewards=np.array(rewards), terminated=terminated
    )
