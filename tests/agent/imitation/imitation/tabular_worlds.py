"""Small tabular environments, and experts that plan with their true rewards."""

from __future__ import annotations

from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from imitation.algorithms.mce_irl import mce_partition_fh
from seals.base_envs import TabularModelMDP, TabularModelPOMDP
from seals.diagnostics.cliff_world import CliffWorldEnv

from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence

HORIZON = 6


def cliff() -> gym.Env[Any, Any]:
    """A grid of 4 by 3 of which coordinates are observed."""
    return CliffWorldEnv(width=4, height=3, horizon=HORIZON, use_xy_obs=True)


def ring() -> gym.Env[Any, Any]:
    """Five states in a ring, observed by their numbers; the third is the best."""
    forwards, backwards = np.roll(np.eye(5), 1, axis=1), np.roll(np.eye(5), -1, axis=1)
    return TabularModelMDP(
        transition_matrix=np.stack([forwards, backwards], axis=1),
        reward_matrix=np.array([0.0, 0.0, 3.0, 0.0, 0.0]),
        horizon=HORIZON,
    )


def true_policy(env: Any) -> npt.NDArray[np.float64]:
    """The soft-optimal policy for the environment's own reward. `[T, S, A]`"""
    pi: npt.NDArray[np.float64] = mce_partition_fh(env)[2]
    return pi


@cache
def cliff_demonstrations() -> EpisodeSequence:
    return demonstrations(cliff(), 200)


@cache
def ring_demonstrations() -> EpisodeSequence:
    return demonstrations(ring(), 200)


def demonstrations(env: Any, n_episodes: int) -> EpisodeSequence:
    """Episodes of an expert who acts by the soft-optimal policy."""
    rng, policy = np.random.default_rng(0), true_policy(env)
    episodes = [_play(env, policy, rng, seed) for seed in range(n_episodes)]
    return EpisodeSequence.from_episodes(
        episodes, observation_space=env.observation_space, action_space=env.action_space
    )


def _play(env: Any, policy: npt.NDArray[np.float64], rng: np.random.Generator, seed: int) -> Episode:
    observation, _ = env.reset(seed=seed)
    observations, actions, rewards = [observation], [], []
    for step in range(HORIZON):
        action = np.int64(rng.choice(env.action_space.n, p=policy[step, env.state]))
        observation, reward, _, _, _ = env.step(action)
        observations.append(observation)
        actions.append(action)
        rewards.append(float(reward))
    return Episode(
        observations=np.stack(observations), actions=np.array(actions), rewards=np.array(rewards), terminated=True
    )


def with_equal_looks() -> TabularModelPOMDP[Any]:
    """Two states that look the same."""
    return TabularModelPOMDP(
        transition_matrix=np.full((2, 2, 2), 0.5),
        observation_matrix=np.zeros((2, 1), dtype=np.float32),
        reward_matrix=np.zeros(2),
        horizon=HORIZON,
    )
