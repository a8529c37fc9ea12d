"""Small recordings to learn from, and every algorithm of d3rlpy with settings small enough for tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from rl_framework.agent.imitation.d3rlpy.agent import D3RLPYAgent
from rl_framework.agent.imitation.d3rlpy.table import ROWS
from rl_framework.compat.d3rlpy import import_d3rlpy
from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence

TARGET_RETURN = 20.0
CONTEXT = 4
# Settings under which every part of an algorithm is at work within the few updates of a test.
DIFFERENCES: dict[str, dict[str, Any]] = {
    "BEAR": {"warmup_steps": 4, "n_action_samples": 8},
    "BCQ": {"n_action_samples": 8},
    "CQL": {"n_action_samples": 4},
    "CalQL": {"n_action_samples": 4},
    "CRR": {"target_update_interval": 5},
    "PLAS": {"warmup_steps": 4},
    "PLASWithPerturbation": {"warmup_steps": 4},
    "DQN": {"target_update_interval": 5},
    "DoubleDQN": {"target_update_interval": 5},
    "DiscreteBCQ": {"target_update_interval": 5},
    "DiscreteCQL": {"target_update_interval": 5},
    "DiscreteSAC": {"target_update_interval": 5},
    "DecisionTransformer": {"num_layers": 1},
    "TACR": {"num_layers": 1},
    "DiscreteDecisionTransformer": {"num_layers": 1, "num_heads": 2, "warmup_tokens": 100},
}


def make_environment(name: str) -> gym.Env[Any, Any]:
    """An environment in which the algorithm of that name can act."""
    return gym.make("CartPole-v1") if ROWS[name].discrete else gym.make("Pendulum-v1", max_episode_steps=25)


def record(env: gym.Env[Any, Any], count: int, act: Callable[[Any], Any] | None = None) -> EpisodeSequence:
    """Episodes of random play, or of a rule's."""
    env.action_space.seed(0)
    choose = act or (lambda _: env.action_space.sample())
    episodes = [_play(env, seed, choose) for seed in range(count)]
    return EpisodeSequence.from_episodes(
        episodes, observation_space=env.observation_space, action_space=env.action_space
    )


def recordings(name: str) -> EpisodeSequence:
    """Random play for the algorithm of that name."""
    return record(make_environment(name), 8)


def small_parameters(name: str) -> dict[str, Any]:
    """Networks and batches of a few numbers."""
    encoder = import_d3rlpy().models.VectorEncoderFactory(hidden_units=[8])
    fields = {field.name for field in dataclasses.fields(ROWS[name].config_class)}
    encoders = {field: encoder for field in fields if field.endswith("encoder_factory")}
    context = {"context_size": CONTEXT} if "context_size" in fields else {}
    return {"batch_size": 8, **encoders, **context, **DIFFERENCES.get(name, {})}


def make_agent(name: str, **parameters: Any) -> D3RLPYAgent:
    """A small untrained agent, the same at every call."""
    target_return = TARGET_RETURN if ROWS[name].is_transformer else None
    return D3RLPYAgent(
        name, {**small_parameters(name), **parameters}, target_return=target_return, device="cpu", seed=3
    )


def trained_agent(name: str, steps: int = 12, **parameters: Any) -> D3RLPYAgent:
    """A small agent after a few updates."""
    agent = make_agent(name, **parameters)
    agent.train(recordings(name), steps, progress_bar=False)
    return agent


def observations_for(name: str, count: int = 6) -> np.ndarray:
    """Observations to act on. `[count, ...]`"""
    env = make_environment(name)
    return np.stack([env.reset(seed=seed)[0] for seed in range(count)])


def vectors(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Random vectors. `[count, size]`"""
    return np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)


def _play(env: gym.Env[Any, Any], seed: int, choose: Callable[[Any], Any]) -> Episode:
    observations, actions, rewards = [env.reset(seed=seed)[0]], [], []
    terminated = truncated = False
    while not (terminated or truncated):
        action = choose(observations[-1])
        observation, reward, terminated, truncated, _ = env.step(action)
        observations.append(observation)
        actions.append(action)
        rewards.append(reward)
    return Episode(
        observations=np.stack(observations),
        actions=np.array(actions),
        rewards=np.array(rewards, dtype=np.float32),
        terminated=terminated,
    )
