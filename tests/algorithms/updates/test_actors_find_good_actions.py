"""Actors climb critics of every kind to the best action of a task of one step, which depends on what is seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from rl_framework.algorithms.updates.actor_critic import ActorCriticConfig
from rl_framework.algorithms.updates.ddpg import DDPGConfig
from rl_framework.algorithms.updates.sac import SACConfig
from rl_framework.algorithms.updates.td3 import TD3Config
from tests.algorithms.updates.rule_workshops import make_batch, make_rule

FAST: dict[str, Any] = {
    "network": {"hidden_sizes": (32, 32)},
    "learning_rate": 3e-3,
    "actor_learning_rate": 3e-3,
    "target_share": 0.05,
}
CASES: dict[str, ActorCriticConfig] = {
    "ddpg": DDPGConfig(**FAST),
    "ddpg of horizons": DDPGConfig(**FAST, horizons=3),
    "ddpg of a random ensemble": DDPGConfig(**FAST, n_critics=4, combination="random_ensemble"),
    "ddpg of gaussian critics": DDPGConfig(**FAST, critic="gaussian", n_critics=2),
    "td3": TD3Config(**FAST, policy_objective="min"),
    "td3 with layer norm": TD3Config(**{**FAST, "network": {"hidden_sizes": (32, 32), "layer_norm": True}}),
    "sac": SACConfig(**FAST, entropy_coefficient=0.01),
    "sac of truncated quantiles": SACConfig(
        **FAST, entropy_coefficient=0.01, critic="quantile", combination="mean", n_quantiles=8, dropped_quantiles=2
    ),
}


def best_actions(observations: Tensor) -> Tensor:
    return torch.tanh(observations[:, :2]) * 0.7


@pytest.mark.parametrize("config", CASES.values(), ids=CASES.keys())
def test_actors_find_the_best_actions(config: ActorCriticConfig) -> None:
    rule = make_rule(config)
    batch = make_batch(512)
    rewards = -(batch.actions - best_actions(batch.observations)).square().sum(1, keepdim=True)
    batch = replace(batch, rewards=rewards, discounts=torch.zeros_like(rewards))
    before = distance(rule, batch.observations)
    for step in range(1, 401):
        rule.learn(batch, step)
    assert before > 0.3
    assert distance(rule, batch.observations) < 0.12


def distance(rule: Any, observations: Tensor) -> float:
    actions = rule.act(observations, deterministic=True)
    return float((actions - best_actions(observations)).abs().mean())
