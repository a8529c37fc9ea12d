"""Targets and losses of every rule against loops in float64 (check 5 of the specification)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rl_framework.algorithms.updates.base import RuleConfig
from rl_framework.algorithms.updates.ddpg import DDPGConfig
from rl_framework.algorithms.updates.deterministic import DeterministicConfig
from rl_framework.algorithms.updates.dqn import DQNConfig
from rl_framework.algorithms.updates.sac import SACConfig
from rl_framework.algorithms.updates.td3 import TD3Config
from rl_framework.data.replay_batch import ReplayBatch
from tests.algorithms.updates import slow_rules as slow
from tests.algorithms.updates.rule_workshops import CHOICES, SMALL, make_batch, make_rule, weights_of

N = 12
ONE, THREE = (0.9,), (0.5, 0.99, 0.9)
Case = tuple[RuleConfig, tuple[float, ...]]


def td3_of_mrl() -> TD3Config:
    return TD3Config(
        network=SMALL,
        online_target_actor=True,
        policy_objective="min",
        target_noise=0.1,
        noise_clip=0.3,
        action_l2=0.01,
    )


ACTORS: dict[str, Case] = {
    "ddpg": (DDPGConfig(network=SMALL), ONE),
    "ddpg with prices and limits": (
        DDPGConfig(network=SMALL, action_l2=0.1, cloning_weight=0.3, clip_target_range=(-0.5, 0.4)),
        ONE,
    ),
    "ddpg of several discounts": (DDPGConfig(network=SMALL), THREE),
    "ddpg of horizons": (
        DDPGConfig(network=SMALL, horizons=7, acting_horizons=3, target_noise=0.1, policy_noise=0.1, noise_clip=0.2),
        ONE,
    ),
    "ddpg of few horizons": (DDPGConfig(network=SMALL, horizons=3), ONE),
    "ddpg of a random ensemble": (DDPGConfig(network=SMALL, n_critics=4, combination="random_ensemble"), ONE),
    "ddpg of a random ensemble of horizons": (
        DDPGConfig(network=SMALL, n_critics=3, combination="random_ensemble", horizons=4),
        ONE,
    ),
    "ddpg of gaussian critics": (DDPGConfig(network=SMALL, critic="gaussian", variance_regularization=0.2), THREE),
    "td3": (TD3Config(network=SMALL), ONE),
    "td3 of mrl": (td3_of_mrl(), ONE),
    "td3 of several discounts": (TD3Config(network=SMALL, n_critics=3), THREE),
    "td3 of gaussian critics": (TD3Config(network=SMALL, critic="gaussian"), ONE),
    "td3 of quantile critics": (TD3Config(network=SMALL, critic="quantile", n_quantiles=5), THREE),
    "td3 of the mean": (TD3Config(network=SMALL, combination="mean", n_critics=3), ONE),
    "sac": (SACConfig(network=SMALL), ONE),
    "sac of a fixed temperature": (SACConfig(network=SMALL, entropy_coefficient=0.2, action_l2=0.05), ONE),
    "sac without entropy ahead": (SACConfig(network=SMALL, backup_entropy=False), ONE),
    "sac of several discounts": (SACConfig(network=SMALL), THREE),
    "sac of horizons": (SACConfig(network=SMALL, horizons=6), ONE),
    "sac of truncated quantiles": (
        SACConfig(
            network=SMALL, critic="quantile", combination="mean", n_critics=3, n_quantiles=6, dropped_quantiles=2
        ),
        ONE,
    ),
}
CHOOSERS: dict[str, Case] = {
    "dqn": (DQNConfig(network=SMALL), ONE),
    "double": (DQNConfig(network=SMALL, double=True), ONE),
    "double and dueling": (DQNConfig(network=SMALL, double=True, dueling=True), ONE),
    "several discounts": (DQNConfig(network=SMALL, double=True, clip_target_range=(-0.5, 0.4)), THREE),
    "dueling horizons": (DQNConfig(network=SMALL, horizons=4, dueling=True, acting_horizons=2), ONE),
    "random ensemble": (DQNConfig(network=SMALL, n_critics=4, combination="random_ensemble"), ONE),
    "clipped": (DQNConfig(network=SMALL, n_critics=2), ONE),
    "gaussian": (DQNConfig(network=SMALL, critic="gaussian", double=True), THREE),
    "quantile": (DQNConfig(network=SMALL, critic="quantile", n_quantiles=5, n_critics=2, combination="mean"), ONE),
}


def made(case: Case, **given: Any) -> tuple[Any, ReplayBatch, int]:
    """A rule whose targets differ from what they follow, a batch, and the number of values."""
    config, gammas = case
    rule = make_rule(config, gammas=gammas, **given)
    generator = torch.Generator().manual_seed(5)
    for name, module in rule.networks().items():
        if name.endswith(("target", "targets")):
            for parameter in module.parameters():
                parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    batch = make_batch(N, gammas=gammas, is_discrete=isinstance(config, DQNConfig), weighed=True)
    return rule, batch, config.horizons or len(gammas)


def drawn_weights(rule: Any, twin: torch.Generator) -> Any:
    """Weights of a random ensemble, drawn by hand."""
    if rule.config.combination != "random_ensemble":
        return None
    exponential = slow.numbers(torch.empty(rule.config.n_critics).exponential_(generator=twin))
    return exponential / exponential.sum()


def clipped_noise(twin: torch.Generator, std: float, clip: float) -> Any:
    if not std:
        return np.zeros((N, 2))
    return np.clip(slow.numbers(torch.empty(N, 2).normal_(0.0, std, generator=twin)), -clip, clip)


def normal_noise(rule: Any, observations: Tensor, twin: torch.Generator) -> Any:
    """What a squashed actor draws, in the order of its memory."""
    return slow.numbers(torch.empty_like(rule.actor(observations)[0]).normal_(generator=twin))


def next_actions(rule: Any, batch: ReplayBatch, twin: torch.Generator) -> list[tuple[Any, float]]:
    """Actions in the next states and what they cost, row by row."""
    config, following = rule.config, slow.numbers(batch.next_observations)
    if isinstance(config, DeterministicConfig):
        actor = rule.actor if config.online_target_actor else rule.actor_target.network
        noise = clipped_noise(twin, config.target_noise, config.noise_clip)
        return [
            (np.clip(np.tanh(slow.network(actor.body, 0, following[row])) + noise[row], -1.0, 1.0), 0.0)
            for row in range(N)
        ]
    noise = normal_noise(rule, batch.next_observations, twin)
    drawn = [slow.squashed(rule.actor, following[row], noise[row]) for row in range(N)]
    price = float(rule.entropy_coefficient) if config.backup_entropy else 0.0
    return [(action, price * log_prob) for action, log_prob in drawn]


def right_targets(rule: Any, batch: ReplayBatch, n_values: int, twin: torch.Generator) -> tuple[list[Any], Any]:
    weights = drawn_weights(rule, twin)
    found = []
    for row, (action, cost) in enumerate(next_actions(rule, batch, twin)):
        members = slow.critic(rule.critic_targets.network, slow.numbers(batch.next_observations[row]), action)
        rewards, discounts = slow.numbers(batch.rewards[row]), slow.numbers(batch.discounts[row])
        found.append(slow.targets(rule.config, n_values, rewards, discounts, members, cost=cost, weights=weights))
    return found, weights


@pytest.mark.parametrize("case", ACTORS.values(), ids=ACTORS.keys())
def test_targets_and_critic_losses_with_an_actor(case: Case) -> None:
    rule, batch, n_values = made(case)
    right, weights = right_targets(rule, batch, n_values, slow.like(rule.generator))
    start = rule.generator.get_state()
    found = rule.targets(batch, rule.head.draw_weights(rule.generator, torch.device("cpu")))
    np.testing.assert_allclose(np.sort(found.numpy()), np.sort(np.array(right)), atol=1e-5, rtol=1e-5)

    members = [
        slow.critic(rule.critics, slow.numbers(batch.observations[row]), slow.numbers(batch.actions[row]))
        for row in range(N)
    ]
    counts = slow.numbers(batch.weights if batch.weights is not None else torch.ones(N))
    losses = [slow.loss(rule.config, n_values, members[row], right[row], weights) for row in range(N)]
    rule.generator.set_state(start)
    learned = rule.learn_critics(batch)
    assert float(learned.metrics["train/critic_loss"]) == pytest.approx(float(np.mean(counts * losses)), rel=1e-5)
    if weights is None:
        errors = [slow.error(rule.config, n_values, members[row], right[row]) for row in range(N)]
        np.testing.assert_allclose(learned.errors.numpy(), errors, atol=1e-5)


@pytest.mark.parametrize("case", ACTORS.values(), ids=ACTORS.keys())
def test_actor_losses(case: Case) -> None:
    rule, batch, n_values = made(case)
    config, twin = rule.config, slow.like(rule.generator)
    seen = slow.numbers(batch.observations)
    total = 0.0
    is_deterministic = isinstance(config, DeterministicConfig)
    noise = (
        clipped_noise(twin, config.policy_noise, config.noise_clip)
        if is_deterministic
        else normal_noise(rule, batch.observations, twin)
    )
    for row in range(N):
        if is_deterministic:
            action, price = np.tanh(slow.network(rule.actor.body, 0, seen[row])), 0.0
            tried = np.clip(action + noise[row], -1.0, 1.0)
            price = config.cloning_weight * float(np.mean((action - slow.numbers(batch.actions[row])) ** 2))
        else:
            action, log_prob = slow.squashed(rule.actor, seen[row], noise[row])
            tried, price = action, float(rule.entropy_coefficient) * log_prob
        value = slow.actor_value(config, n_values, slow.critic(rule.critics, seen[row], tried))
        total += (price - value + config.action_l2 * float(np.mean(action**2))) / N
    assert float(rule.actor_loss(batch)[0].detach()) == pytest.approx(total, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("case", CHOOSERS.values(), ids=CHOOSERS.keys())
def test_targets_and_losses_of_choices(case: Case) -> None:
    rule, batch, n_values = made(case, actions=CHOICES)
    config = rule.config
    weights = drawn_weights(rule, slow.like(rule.generator))
    right, losses, errors = [], [], []
    for row in range(N):
        following = slow.numbers(batch.next_observations[row])
        tables = slow.choices(rule.critic_targets.network, following)
        known = slow.choices(rule.critics, following) if config.double else tables
        worth = [
            slow.together(
                config, [slow.acting(config, slow.mean_values(config, n_values, one[k])) for one in known], weights
            )
            for k in range(4)
        ]
        best = worth.index(max(worth))
        rewards, discounts = slow.numbers(batch.rewards[row]), slow.numbers(batch.discounts[row])
        right.append(slow.targets(config, n_values, rewards, discounts, [one[best] for one in tables], weights=weights))
        seen = slow.choices(rule.critics, slow.numbers(batch.observations[row]))
        members = [one[int(batch.actions[row])] for one in seen]
        losses.append(slow.loss(config, n_values, members, right[row], weights))
        errors.append(slow.error(config, n_values, members, right[row]))
    start = rule.generator.get_state()
    found = rule.targets(batch, rule.head.draw_weights(rule.generator, torch.device("cpu")))
    np.testing.assert_allclose(np.sort(found.numpy()), np.sort(np.array(right)), atol=1e-5, rtol=1e-5)
    rule.generator.set_state(start)
    learned = rule.learn(batch, 1)
    counts = slow.numbers(batch.weights if batch.weights is not None else torch.ones(N))
    assert float(learned.metrics["train/critic_loss"]) == pytest.approx(float(np.mean(counts * losses)), rel=1e-5)
    if weights is None:
        np.testing.assert_allclose(learned.errors.numpy(), errors, atol=1e-5)


@pytest.mark.parametrize("case", ACTORS.values(), ids=ACTORS.keys())
def test_actor_steps_leave_critics_bit_identical(case: Case) -> None:
    rule, batch, _ = made(case)
    before, actor = [*weights_of(rule.critics), *weights_of(rule.critic_targets)], weights_of(rule.actor)
    gradients = [parameter.grad.clone() for parameter in rule.critics.parameters() if parameter.grad is not None]
    rule.learn_actor(rule.prepared(batch))
    after = [*weights_of(rule.critics), *weights_of(rule.critic_targets)]
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert any(not torch.equal(old, new) for old, new in zip(actor, weights_of(rule.actor), strict=True))
    found = [parameter.grad for parameter in rule.critics.parameters() if parameter.grad is not None]
    assert all(torch.equal(old, new) for old, new in zip(gradients, found, strict=True))


@pytest.mark.parametrize("case", ACTORS.values(), ids=ACTORS.keys())
def test_critic_steps_leave_actors_and_targets_bit_identical(case: Case) -> None:
    rule, batch, _ = made(case)
    before = [*weights_of(rule.actor), *weights_of(rule.critic_targets)]
    critics = weights_of(rule.critics)
    rule.learn_critics(rule.prepared(batch))
    after = [*weights_of(rule.actor), *weights_of(rule.critic_targets)]
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert any(not torch.equal(old, new) for old, new in zip(critics, weights_of(rule.critics), strict=True))


def test_temperature_follows_the_entropy() -> None:
    for target, rises in ((50.0, True), (-50.0, False)):
        rule = make_rule(SACConfig(network=SMALL, target_entropy=target, initial_entropy_coefficient=0.7))
        assert float(rule.entropy_coefficient) == pytest.approx(0.7)
        metrics = rule.learn(make_batch(), 1).metrics
        assert (float(metrics["train/entropy_coefficient"]) > 0.7) is rises
        assert float(metrics["train/entropy_coefficient"]) == float(rule.entropy_coefficient)


def test_first_gradient_of_the_temperature_is_that_of_the_paper() -> None:
    rule = make_rule(SACConfig(network=SMALL, entropy_learning_rate=0.1))
    missing = -2.0 - float(rule.learn(make_batch(), 1).metrics["train/entropy"])
    assert float(rule.temperature.logarithm.grad) == pytest.approx(-missing, rel=1e-6)
    assert float(rule.temperature.logarithm.detach()) == pytest.approx(0.1 * np.sign(missing), rel=1e-4)


def test_equal_discounts_learn_alike_from_equal_weights() -> None:
    one = make_rule(TD3Config(network=SMALL), gammas=(0.9,))
    three = make_rule(TD3Config(network=SMALL), gammas=(0.9, 0.9, 0.9))
    three.actor.load_state_dict(one.actor.state_dict())
    three.actor_target.load_state_dict(one.actor_target.state_dict())
    for source, copies in ((one.critics, three.critics), (one.critic_targets.network, three.critic_targets.network)):
        for single, several in zip(source.parameters(), copies.parameters(), strict=True):
            several.data.copy_(single.data if single.shape == several.shape else single.data.expand_as(several))
    three.generator.set_state(one.generator.get_state())
    batch = make_batch(N, gammas=(0.9,))
    wide = replace(batch, rewards=batch.rewards.expand(-1, 3), discounts=batch.discounts.expand(-1, 3))
    first, second = one.learn(batch, 2), three.learn(wide, 2)
    torch.testing.assert_close(first.errors, second.errors)
    for name, value in first.metrics.items():
        torch.testing.assert_close(value, second.metrics[name])


def test_several_weights_share_one_gradient_descent_of_the_mean_loss() -> None:
    def gradients(weights: Tensor | None) -> Tensor:
        rule = make_rule(DDPGConfig(network=SMALL))
        rule.learn_critics(replace(make_batch(N), weights=weights))
        return torch.cat([parameter.grad.flatten() for parameter in rule.critics.parameters()])

    torch.testing.assert_close(gradients(torch.full((N,), 2.0)), 2.0 * gradients(None))
