"""What rules keep: weights, targets that follow, states to resume from, and nothing that a graph would miss."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from rl_framework.algorithms.host_access import HostAccessRefused
from rl_framework.algorithms.updates.base import RuleConfig, UpdateRule
from rl_framework.algorithms.updates.batch_constrained import BatchConstrainedConfig
from rl_framework.algorithms.updates.conservative_sac import ConservativeSACConfig
from rl_framework.algorithms.updates.ddpg import DDPGConfig
from rl_framework.algorithms.updates.dqn import DQNConfig
from rl_framework.algorithms.updates.rule_configs import RULES, as_rule_config
from rl_framework.algorithms.updates.sac import SACConfig
from rl_framework.algorithms.updates.td3 import TD3Config
from rl_framework.core.seeding import capture_random_state
from rl_framework.core.trees import leaves, map_tree
from rl_framework.data.replay_batch import ReplayBatch
from rl_framework.errors import InvalidInputError
from tests.algorithms.replay_backend import ReplayBackend
from tests.algorithms.updates.rule_workshops import (
    ACTIONS,
    CHOICES,
    SMALL,
    GivenReplay,
    make_batch,
    make_rule,
    make_workshop,
    weights_of,
)

CASES: dict[str, RuleConfig] = {
    **{name: as_rule_config({"kind": name, "network": SMALL}) for name in RULES},
    "ddpg of a random ensemble": DDPGConfig(
        network=SMALL, n_critics=3, combination="random_ensemble", policy_noise=0.1
    ),
    "td3 in long periods": TD3Config(network=SMALL, policy_every=3, target_every=2, gradient_norm_clip=0.5),
    "sac of truncated quantiles": SACConfig(
        network=SMALL,
        critic="quantile",
        combination="mean",
        n_quantiles=5,
        dropped_quantiles=1,
        gradient_value_clip=0.1,
    ),
    "sac of waves": SACConfig(network=SMALL, normalize_observations=True, fourier_octaves=2),
    "sac of a fixed temperature": SACConfig(network=SMALL, entropy_coefficient=0.2, critic="gaussian"),
    "dueling double dqn": DQNConfig(network=SMALL, double=True, dueling=True, n_critics=2, critic="gaussian"),
    "conservative range": ConservativeSACConfig(network=SMALL, conservatism="range", clip_target_range=(-5.0, 0.0)),
    "batch_constrained of horizons": BatchConstrainedConfig(network=SMALL, horizons=4, n_proposals=3),
}


def of(name: str, **given: Any) -> Any:
    config = CASES[name]
    return make_rule(config, actions=CHOICES if isinstance(config, DQNConfig) else ACTIONS, **given)


def batch_for(rule: UpdateRule, seed: int = 1, **given: Any) -> ReplayBatch:
    return make_batch(is_discrete=isinstance(rule.config, DQNConfig), seed=seed, **given)


def learn(rule: UpdateRule, steps: range) -> None:
    for step in steps:
        rule.learn(batch_for(rule, seed=step), step)


def all_weights(rule: UpdateRule) -> list[Tensor]:
    return [tensor for network in rule.networks().values() for tensor in weights_of(network)]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_a_resumed_rule_goes_on_bit_for_bit(name: str) -> None:
    whole, resumed = of(name, seed=3), of(name, seed=4)
    learn(whole, range(1, 8))
    state, drawn = map_tree(copied, whole.state_dict()), whole.generator.get_state()
    learn(whole, range(8, 15))
    resumed.load_state_dict(state)
    resumed.generator.set_state(drawn)
    learn(resumed, range(8, 15))
    assert same(all_weights(whole), all_weights(resumed))
    batch = batch_for(whole)
    for deterministic in (True, False):
        actions = [
            rule.act(batch.observations, deterministic=deterministic, generator=torch.Generator().manual_seed(0))
            for rule in (whole, resumed)
        ]
        assert torch.equal(*actions)
    assert torch.equal(whole.values(batch.observations), resumed.values(batch.observations))


def copied(leaf: Any) -> Any:
    return leaf.clone() if isinstance(leaf, Tensor) else leaf


@pytest.mark.parametrize("name", CASES)
def test_a_saved_state_does_not_change_with_the_rule(name: str) -> None:
    rule = of(name)
    learn(rule, range(1, 3))
    state = rule.state_dict()
    before = [copied(leaf) for leaf in leaves(state)]
    learn(rule, range(3, 9))
    for one, other in zip(before, leaves(state), strict=True):
        assert torch.equal(one, other) if isinstance(one, Tensor) else one == other


@pytest.mark.parametrize("name", CASES)
def test_loading_keeps_the_memory(name: str) -> None:
    rule = of(name)
    state = rule.state_dict()
    places = [tensor.data_ptr() for network in rule.networks().values() for tensor in network.parameters()]
    rule.load_state_dict(state)
    assert places == [tensor.data_ptr() for network in rule.networks().values() for tensor in network.parameters()]


@pytest.mark.parametrize("name", CASES)
def test_two_rules_side_by_side_learn_as_each_alone(name: str) -> None:
    alone = of(name, seed=1)
    learn(alone, range(1, 7))
    first, second = of(name, seed=1), of(name, seed=2)
    for step in range(1, 7):
        learn(second, range(step, step + 1))
        learn(first, range(step, step + 1))
    assert same(all_weights(alone), all_weights(first))
    assert not same(all_weights(first), all_weights(second))


@pytest.mark.parametrize("name", CASES)
def test_the_generators_of_the_process_are_left_alone(name: str) -> None:
    before = capture_random_state()
    rule = of(name)
    learn(rule, range(1, 4))
    rule.act(batch_for(rule).observations, deterministic=False, generator=torch.Generator().manual_seed(0))
    rule.values(batch_for(rule).observations)
    after = capture_random_state()
    assert torch.equal(before["torch"], after["torch"])
    assert np.array_equal(before["numpy"]["keys"], after["numpy"]["keys"])
    assert before["numpy"]["position"] == after["numpy"]["position"]


@pytest.mark.parametrize("name", CASES)
def test_no_update_waits_for_the_device(name: str) -> None:
    rule = of(name)
    batches = {step: batch_for(rule, seed=step, weighed=True) for step in range(1, 7)}
    with HostAccessRefused(torch.device("cpu")):
        for step, batch in batches.items():
            rule.learn(batch, step)


@pytest.mark.parametrize("name", CASES)
def test_captured_periods_learn_like_called_ones(name: str) -> None:
    called, captured = of(name), of(name)
    place = batch_for(captured)
    backend = ReplayBackend()

    def period() -> Tensor:
        learned = [captured.learn(place, step) for step in range(1, captured.period + 1)]
        errors: Tensor = learned[-1].errors
        return errors

    replayed = backend.capture(period, [captured.generator])
    for round_ in range(3):
        given = batch_for(called, seed=round_)
        write(place, given)
        errors = replayed()
        right = [called.learn(given, round_ * called.period + step) for step in range(1, called.period + 1)]
        assert torch.equal(errors, right[-1].errors)
    assert same(all_weights(called), all_weights(captured))
    assert backend.replays == [3]


def write(place: ReplayBatch, given: ReplayBatch) -> None:
    for name in ("observations", "actions", "rewards", "next_observations", "discounts"):
        getattr(place, name).copy_(getattr(given, name))


@pytest.mark.parametrize("name", CASES)
def test_networks_stay_when_a_rule_is_set_up_again(name: str) -> None:
    config = CASES[name]
    rule, workshop = make_workshop(config, actions=CHOICES if isinstance(config, DQNConfig) else ACTIONS)
    before = all_weights(rule)
    drawn = workshop.generator.get_state()
    workshop.parts.replace("replay", GivenReplay(batch_for(rule)), workshop)
    assert same(before, all_weights(rule))
    assert torch.equal(drawn, workshop.generator.get_state())
    rule.optimize(1)
    assert rule.replay.asked == [4]


def test_a_rule_learns_from_its_replay_and_tells_the_errors() -> None:
    batch = make_batch()
    replay = GivenReplay(batch)
    rule = make_rule(DDPGConfig(network=SMALL), replay=replay)
    twin = make_rule(DDPGConfig(network=SMALL))
    metrics = rule.optimize(1)
    learned = twin.learn(batch, 1)
    assert metrics == learned.metrics
    ((rows, errors),) = replay.heard
    assert torch.equal(rows, batch.rows)
    assert torch.equal(errors, learned.errors)
    assert not errors.requires_grad


@pytest.mark.parametrize("name", CASES)
def test_reports_and_actions_have_no_gradients(name: str) -> None:
    rule = of(name)
    batch = batch_for(rule)
    for step in range(1, rule.period + 1):
        learned = rule.learn(batch, step)
        assert learned.errors.shape == (12,)
        assert all(value.shape == () and not value.requires_grad for value in learned.metrics.values())
    for deterministic in (True, False):
        actions = rule.act(batch.observations, deterministic=deterministic)
        assert actions.shape == batch.actions.shape
        assert actions.dtype == batch.actions.dtype
        assert not actions.requires_grad
        if actions.dtype == torch.float32:
            assert float(actions.abs().max()) <= 1.0
    assert rule.values(batch.observations).shape == (12,)
    assert not rule.values(batch.observations, batch.actions).requires_grad


@pytest.mark.parametrize("name", CASES)
def test_policies_act_on_their_own_networks(name: str) -> None:
    rule = of(name)
    observations = batch_for(rule).observations
    before = rule.act(observations, deterministic=True)
    values = rule.values(observations)
    assert torch.equal(before, rule.act(observations, deterministic=True))
    torch.testing.assert_close(values, rule.values(observations, before))
    with torch.no_grad():
        for parameter in rule.policy_network.parameters():
            parameter.normal_(0.0, 1.0, generator=rule.generator)
    assert not torch.equal(before, rule.act(observations, deterministic=True))


def test_values_are_those_of_the_least_confident_critic() -> None:
    rule = make_rule(TD3Config(network=SMALL, n_critics=3), gammas=(0.5, 0.9))
    batch = make_batch()
    with torch.no_grad():
        outputs = rule.critics(batch.observations, batch.actions)
    assert torch.equal(rule.values(batch.observations, batch.actions), outputs[:, :, 1].amin(0))


def test_targets_follow_in_closed_form() -> None:
    """With a source that stands still: distance times (1 - share) each time (check 5)."""
    rule = make_rule(TD3Config(network=SMALL, target_share=0.05))
    source = torch.cat([weight.flatten() for weight in weights_of(rule.critics)])
    with torch.no_grad():
        for parameter in rule.critic_targets.parameters():
            parameter.add_(1.0)
    start = torch.cat([weight.flatten() for weight in weights_of(rule.critic_targets)])
    for _ in range(60):
        rule.critic_targets.update(rule.config.target_share)
    expected = source + 0.95**60 * (start - source)
    found = torch.cat([weight.flatten() for weight in weights_of(rule.critic_targets)])
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0.0)


@pytest.mark.parametrize(("policy_every", "target_every"), [(1, 1), (2, 2), (2, 3), (4, 6)])
def test_actor_and_targets_keep_their_times(policy_every: int, target_every: int) -> None:
    rule = make_rule(TD3Config(network=SMALL, policy_every=policy_every, target_every=target_every))
    assert rule.period == np.lcm(policy_every, target_every)
    for step in range(1, 13):
        actor, targets = weights_of(rule.actor), weights_of(rule.critic_targets)
        metrics = rule.learn(make_batch(seed=step), step).metrics
        assert same(actor, weights_of(rule.actor)) is bool(step % policy_every)
        assert ("train/actor_loss" in metrics) is not bool(step % policy_every)
        assert same(targets, weights_of(rule.critic_targets)) is bool(step % target_every)


def test_statistics_of_observations_are_shared_by_all_networks() -> None:
    rule = make_rule(SACConfig(network=SMALL, normalize_observations=True))
    batch = make_batch(200)
    assert rule.features.is_normalized
    before = rule.critic_targets(batch.observations, batch.actions)
    rule.features.update_normalization(batch.observations * 3.0 + 1.0)
    assert not torch.equal(before, rule.critic_targets(batch.observations, batch.actions))
    numbers = rule.features.prepare(batch.observations * 3.0 + 1.0)
    statistics = weights_of(rule.features)
    first = rule.critics(numbers, batch.actions)
    assert torch.equal(first, rule.critics(batch.observations * 3.0 + 1.0, batch.actions))
    rule.learn(batch, 1)
    assert same(statistics, weights_of(rule.features))
    twin = make_rule(SACConfig(network=SMALL, normalize_observations=True), seed=9)
    twin.load_state_dict(rule.state_dict())
    assert torch.equal(
        twin.features.prepare(batch.observations).numbers, rule.features.prepare(batch.observations).numbers
    )


def test_states_of_other_networks_are_refused() -> None:
    state = make_rule(SACConfig(network=SMALL)).state_dict()
    with pytest.raises(InvalidInputError, match="temperature"):
        make_rule(SACConfig(network=SMALL, entropy_coefficient=0.1)).load_state_dict(state)
    with pytest.raises(InvalidInputError, match="saved weights of actor"):
        make_rule(SACConfig(network={"hidden_sizes": (9, 7)})).load_state_dict(state)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(
    "space",
    [
        spaces.Dict(
            observation=spaces.Box(-1, 1, (3,)),
            achieved_goal=spaces.Box(-1, 1, (2,)),
            desired_goal=spaces.Box(-1, 1, (2,)),
        ),
        spaces.Dict(camera=spaces.Box(0, 255, (8, 8, 1), np.uint8), joints=spaces.Box(-1, 1, (2,))),
        spaces.Tuple((spaces.Discrete(3), spaces.Box(-1, 1, (2,)))),
    ],
    ids=["goals", "pictures", "tuple"],
)
def test_observations_of_any_form_are_learned_from(name: str, space: gym.Space[Any]) -> None:
    config = as_rule_config({"kind": name, "network": {**SMALL, "image_features": 32}})
    rule = make_rule(config, observations=space, actions=CHOICES if name == "dqn" else ACTIONS)
    space.seed(0)
    plain = batch_for(rule)
    seen, following = (stacked([space.sample() for _ in range(12)]) for _ in range(2))
    batch = replace(plain, observations=seen, next_observations=following)
    before = all_weights(rule)
    for step in range(1, 3):
        assert bool(torch.isfinite(rule.learn(batch, step).metrics["train/critic_loss"]))
    changed = [not torch.equal(*pair) for pair in zip(before, all_weights(rule), strict=True)]
    assert sum(changed) > 0.7 * len(changed)
    assert rule.act(seen, deterministic=False).shape == plain.actions.shape


def stacked(rows: list[Any]) -> Any:
    return map_tree(lambda *parts: torch.as_tensor(np.stack([np.asarray(part) for part in parts])), *rows)
