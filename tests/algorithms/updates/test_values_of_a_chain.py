"""Values learned on a small deterministic task against exact ones (check 7 of the specification)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from rl_framework.algorithms.parts import Experience
from rl_framework.algorithms.replay_config import ReplayConfig
from rl_framework.algorithms.replay_part import ReplayPart
from rl_framework.algorithms.updates.base import RuleConfig
from rl_framework.algorithms.updates.ddpg import DDPGConfig
from rl_framework.algorithms.updates.dqn import DQNConfig
from rl_framework.algorithms.updates.td3 import TD3Config
from rl_framework.data.replay_batch import ReplayBatch
from tests.algorithms.updates.rule_workshops import make_rule, make_workshop

STATES = spaces.Discrete(6)
STEER = spaces.Box(-1.0, 1.0, (1,))
REWARDS = (1.0, -2.0, 0.5, 0.0, 3.0, -1.0)
TABLE: dict[str, Any] = {
    "network": {"hidden_sizes": ()},  # a linear function of one number per state is a table
    "learning_rate": 0.03,
    "target_share": 0.2,
}
GAMMAS = (0.0, 0.5, 0.8)
STEPS = 600


def ring(gammas: tuple[float, ...], *, ends_at: int | None, actions: Tensor) -> ReplayBatch:
    """Every state leads to the next, the last one to the first; `actions` are tried in each of them.

    Args:
        gammas: Discount factors.
        ends_at: The state whose step ends the task; None for a task that goes on for ever.
        actions: `[M, ...]`
    """
    states = torch.arange(6).repeat_interleave(len(actions))
    discounts = torch.tensor(gammas).expand(len(states), -1).clone()
    if ends_at is not None:
        discounts[states == ends_at] = 0.0
    return ReplayBatch(
        observations=states,
        actions=actions.repeat(6, *(1,) * (actions.dim() - 1)),
        rewards=torch.tensor(REWARDS)[states].unsqueeze(1).expand(-1, len(gammas)),
        next_observations=(states + 1) % 6,
        discounts=discounts,
        rows=torch.arange(len(states)),
    )


def exact_values(gamma: float, ends_at: int | None) -> list[float]:
    """Solves the Bellman equation of the ring."""
    follows = np.zeros((6, 6))
    for state in range(6):
        follows[state, (state + 1) % 6] = 0.0 if state == ends_at else gamma
    return list(np.linalg.solve(np.eye(6) - follows, np.array(REWARDS)))


def exact_sums(horizon: int, gamma: float, ends_at: int | None) -> list[float]:
    """Discounted sums of so many rewards, from each state."""
    sums = []
    for start in range(6):
        total, state, factor = 0.0, start, 1.0
        for _ in range(horizon):
            total += factor * REWARDS[state]
            if state == ends_at:
                break
            state, factor = (state + 1) % 6, factor * gamma
        sums.append(total)
    return sums


def learned_values(config: RuleConfig, gammas: tuple[float, ...], ends_at: int | None) -> Tensor:
    """Expected values of every state after learning, of the least confident critic. `[6, V]`"""
    is_discrete = isinstance(config, DQNConfig)
    rule = make_rule(config, gammas=gammas, observations=STATES, actions=spaces.Discrete(2) if is_discrete else STEER)
    tried = torch.tensor([0, 1]) if is_discrete else torch.tensor([[-0.5], [0.5]])
    batch = ring(gammas, ends_at=ends_at, actions=tried)
    for step in range(1, STEPS + 1):
        rule.learn(batch, step)
    states = torch.arange(6)
    with torch.no_grad():
        outputs = rule.critics(states)[:, :, 0] if is_discrete else rule.critics(states, torch.zeros(6, 1))
        found: Tensor = rule.head.means(outputs).amin(0)
    return found


@pytest.mark.parametrize(
    ("config", "ends_at"),
    [
        (DDPGConfig(**TABLE), None),
        (DDPGConfig(**TABLE), 2),
        (TD3Config(**TABLE), None),
        (DQNConfig(**TABLE), None),
        (DQNConfig(**TABLE), 2),
        (DDPGConfig(**{**TABLE, "learning_rate": 0.02}, critic="gaussian"), 2),
    ],
)
def test_each_discount_has_the_solution_of_its_bellman_equation(config: RuleConfig, ends_at: int | None) -> None:
    values = learned_values(config, GAMMAS, ends_at)
    for column, gamma in enumerate(GAMMAS):
        np.testing.assert_allclose(values[:, column].numpy(), exact_values(gamma, ends_at), atol=1e-2)


@pytest.mark.parametrize("ends_at", [None, 2])
@pytest.mark.parametrize(
    "config", [DDPGConfig(**TABLE, horizons=8), DQNConfig(**TABLE, horizons=8)], ids=["ddpg", "dqn"]
)
def test_each_horizon_has_its_sum_of_rewards(config: RuleConfig, ends_at: int | None) -> None:
    values = learned_values(config, (0.8,), ends_at)
    for horizon in range(1, 9):
        right = exact_sums(horizon, 0.8, ends_at)
        np.testing.assert_allclose(values[:, horizon - 1].numpy(), right, atol=1e-2)


def test_undiscounted_horizons_are_learned_where_values_without_end_are_infinite() -> None:
    values = learned_values(DDPGConfig(**TABLE, horizons=6), (1.0,), None)
    np.testing.assert_allclose(values[:, 5].numpy(), [sum(REWARDS)] * 6, atol=1e-2)


@pytest.mark.parametrize("double", [False, True])
def test_choices_are_those_of_value_iteration(double: bool) -> None:
    """Forwards as in the ring, or stay for a small reward."""
    gamma, small = 0.8, 0.3
    exact = np.zeros(6)
    for _ in range(500):
        forwards = np.array(REWARDS) + gamma * np.roll(exact, -1)
        exact = np.maximum(forwards, small + gamma * exact)
    states = torch.arange(6).repeat(2)
    goes = torch.arange(12) < 6
    batch = ReplayBatch(
        observations=states,
        actions=(~goes).long(),
        rewards=torch.where(goes, torch.tensor(REWARDS)[states], small).unsqueeze(1),
        next_observations=torch.where(goes, (states + 1) % 6, states),
        discounts=torch.full((12, 1), gamma),
        rows=torch.arange(12),
    )
    rule = make_rule(DQNConfig(**TABLE, double=double), observations=STATES, actions=spaces.Discrete(2))
    for step in range(1, STEPS + 1):
        rule.learn(batch, step)
    every = torch.arange(6)
    np.testing.assert_allclose(rule.values(every).numpy(), exact, atol=1e-2)
    forwards = np.array(REWARDS) + gamma * np.roll(exact, -1)
    assert rule.act(every, deterministic=True).tolist() == [int(value) for value in small + gamma * exact > forwards]


@pytest.mark.parametrize("is_terminated", [False, True])
def test_cut_episodes_change_no_values_and_endings_do(is_terminated: bool) -> None:
    """Episodes along the ring, out of a real replay, which end behind the fourth state or are cut off there."""
    replay = ReplayPart(ReplayConfig(capacity=600, batch_size=256))
    rule, workshop = make_workshop(
        DDPGConfig(**TABLE), observations=STATES, actions=STEER, gammas=(0.8,), replay=replay
    )
    for state, is_last, action in walk(steps=120):
        over = torch.tensor([is_last])
        workshop.parts.process(
            Experience(
                observations=torch.tensor([state]),
                actions=torch.tensor([[action]]),
                rewards=torch.tensor([REWARDS[state]]),
                next_observations=torch.tensor([(state + 1) % 6]),
                terminated=over & is_terminated,
                truncated=over & (not is_terminated),
                following=torch.tensor([(state + 1) % 6]),
            )
        )
    for step in range(1, STEPS + 1):
        rule.optimize(step)
    with torch.no_grad():
        values = rule.critics(torch.arange(6), torch.zeros(6, 1))[0, :, 0]
    right = exact_values(0.8, ends_at=3 if is_terminated else None)
    np.testing.assert_allclose(values.numpy(), right, atol=1e-2)


def walk(steps: int) -> Iterator[tuple[int, bool, float]]:
    """States, whether the episode is over with the step from there, and actions, which mean nothing.

    Episodes end with the step from state 3; every second one begins in state 4 rather than 0.
    """
    taken, episode = 0, 0
    while taken < steps:
        for state in (4, 5, 0, 1, 2, 3) if episode % 2 else (0, 1, 2, 3):
            yield state, state == 3, 0.5 if episode // 2 % 2 else -0.5
            taken += 1
        episode += 1
