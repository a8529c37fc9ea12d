"""Agents with an off-policy learner some of whose parts their users have written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch

from rl_framework import NativeAgent, load_agent
from rl_framework.algorithms.off_policy import OffPolicy
from rl_framework.algorithms.updates.actor_critic import ActorCritic
from rl_framework.errors import UnsafeArchiveError
from tests.algorithms.off_policy_learners import SMALL, numbers_of, same
from tests.algorithms.own_parts import (
    EpisodeCount,
    EpisodeCountConfig,
    HalvedNoise,
    HalvedNoiseConfig,
    LatestConfig,
    ScaledRewards,
    ScaledRewardsConfig,
)

QUICK = {"seed": 0, "device": "cpu", "learning_starts": 20, "random_steps": 20}
OWN: dict[str, Any] = {
    "rule": {"kind": ScaledRewardsConfig, "network": SMALL, "scale": 0.25},
    "replay": {"capacity": 60, "batch_size": 8, "selection": {"kind": LatestConfig, "n_latest": 4}},
    "exploration": HalvedNoiseConfig(std=0.3),
    "extra_parts": {"episodes": EpisodeCountConfig(first=10)},
}


def pendulum() -> gym.Env[Any, Any]:
    return gym.make("Pendulum-v1", max_episode_steps=30)


def trained(parameters: dict[str, Any], timesteps: int = 90) -> tuple[NativeAgent, OffPolicy]:
    agent = NativeAgent(OffPolicy, {**QUICK, **parameters})
    agent.train(pendulum, timesteps, progress_bar=False)
    assert isinstance(agent.algorithm, OffPolicy)
    return agent, agent.algorithm


def test_own_parts_stand_where_those_of_the_library_would() -> None:
    _, algorithm = trained(OWN)
    assert list(algorithm.parts) == ["replay", "exploration", "rule", "episodes"]
    assert isinstance(algorithm.parts["rule"], ScaledRewards)
    assert isinstance(algorithm.parts["exploration"], HalvedNoise)
    count = algorithm.parts["episodes"]
    assert isinstance(count, EpisodeCount)
    assert (count.n_ended, count.n_begun) == (13, 1)


def test_they_are_saved_and_loaded_by_whoever_trusts_their_module(tmp_path: Path) -> None:
    agent, algorithm = trained(OWN)
    agent.save(tmp_path / "agent")
    with pytest.raises(UnsafeArchiveError, match="own_parts"):
        load_agent(tmp_path / "agent")
    loaded = load_agent(tmp_path / "agent", trust=["tests.algorithms.own_parts"])
    assert isinstance(loaded, NativeAgent)
    assert isinstance(loaded.algorithm, OffPolicy)
    assert loaded.config == agent.config
    assert same(numbers_of(loaded.algorithm), numbers_of(algorithm))
    for each in (agent, loaded):
        each.train(pendulum, 60, progress_bar=False)
    count = loaded.algorithm.parts["episodes"]
    assert isinstance(count, EpisodeCount)
    assert (count.n_ended, count.n_begun) == (15, 2)
    assert loaded.algorithm.updates == algorithm.updates > 100


def test_several_discount_factors_are_learned_about_and_saved(tmp_path: Path) -> None:
    rule = {"kind": "td3", "network": SMALL}
    agent, algorithm = trained({"gamma": [0.0, 0.9, 0.99], "rule": rule, "replay": {"batch_size": 8, "n_step": 2}})
    agent.save(tmp_path / "agent")
    loaded = load_agent(tmp_path / "agent")
    assert isinstance(loaded, NativeAgent)
    assert loaded.config.gammas == (0.0, 0.9, 0.99)
    learned = algorithm.parts["rule"]
    assert isinstance(learned, ActorCritic)
    seen, tried = torch.randn(5, 3), torch.rand(5, 1) * 2 - 1
    assert learned.critics(seen, tried).shape == (2, 5, 3)
    assert torch.equal(learned.values(seen, tried), learned.critics(seen, tried)[..., 2].amin(0))
