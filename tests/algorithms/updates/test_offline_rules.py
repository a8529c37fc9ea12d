"""Rules for recordings: their losses by hand, and that they stay with what was recorded."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from rl_framework.algorithms.updates.base import RuleConfig
from rl_framework.algorithms.updates.batch_constrained import BatchConstrainedConfig
from rl_framework.algorithms.updates.conservative_sac import ConservativeSACConfig
from rl_framework.algorithms.updates.sac import SACConfig
from rl_framework.algorithms.updates.td3 import TD3Config
from rl_framework.algorithms.updates.td3_bc import TD3BCConfig
from rl_framework.data.replay_batch import ReplayBatch
from tests.algorithms.updates import slow_rules as slow
from tests.algorithms.updates.rule_workshops import SMALL, make_batch, make_rule

N = 12
FAST: dict[str, Any] = {"network": {"hidden_sizes": (32, 32)}, "learning_rate": 3e-3, "actor_learning_rate": 3e-3}


@pytest.mark.parametrize("action_l2", [0.0, 0.2])
def test_actor_loss_of_td3_bc(action_l2: float) -> None:
    rule, batch = make_rule(TD3BCConfig(network=SMALL, action_l2=action_l2)), make_batch(N)
    values, distances, prices = [], [], []
    for row in range(N):
        seen = slow.numbers(batch.observations[row])
        action = np.tanh(slow.network(rule.actor.body, 0, seen))
        values.append(float(slow.critic(rule.critics, seen, action)[0][0]))
        distances.append(float(np.mean((action - slow.numbers(batch.actions[row])) ** 2)))
        prices.append(float(np.mean(action**2)))
    scale = 2.5 / np.mean(np.abs(values))
    right = float(np.mean(distances) - scale * np.mean(values) + action_l2 * np.mean(prices))
    loss, metrics = rule.actor_loss(batch)
    assert float(loss.detach()) == pytest.approx(right, rel=1e-5)
    assert float(metrics["train/cloning_loss"]) == pytest.approx(float(np.mean(distances)), rel=1e-5)


def test_range_penalty() -> None:
    config = ConservativeSACConfig(
        network=SMALL, conservatism="range", clip_target_range=(-5.0, 1.0), n_candidates=2, conservative_weight=0.3
    )
    rule, batch = make_rule(config), make_batch(N)
    unseen = slow.numbers(torch.empty(N, 2, 2).uniform_(-1.0, 1.0, generator=slow.like(rule.generator)))
    seen = slow.numbers(batch.observations)
    for_unseen = [slow.critic(rule.critics, seen[row], unseen[row, k]) for row in range(N) for k in range(2)]
    for_data = [slow.critic(rule.critics, seen[row], slow.numbers(batch.actions[row])) for row in range(N)]
    right = 0.3 * (abs(float(np.mean(for_unseen)) + 5.0) + abs(float(np.mean(for_data)) - 1.0))
    prepared = rule.prepared(batch)
    outputs = rule.critics(prepared.observations, batch.actions)
    assert float(rule.critic_penalty(prepared, outputs).detach()) == pytest.approx(right, rel=1e-5)


@pytest.mark.parametrize("gammas", [(0.9,), (0.5, 0.9)])
def test_soft_maximum_penalty(gammas: tuple[float, ...]) -> None:
    rule = make_rule(ConservativeSACConfig(network=SMALL, n_candidates=2), gammas=gammas)
    batch = make_batch(N, gammas=gammas)
    prepared, twin = rule.prepared(batch), slow.like(rule.generator)
    uniform = slow.numbers(torch.empty(N, 2, 2).uniform_(-1.0, 1.0, generator=twin))
    drawn = []
    for observations in (batch.observations, batch.next_observations):
        rows = observations.repeat_interleave(2, 0)
        noise = slow.numbers(torch.empty_like(rule.actor(rows)[0]).normal_(generator=twin))
        drawn.append([slow.squashed(rule.actor, slow.numbers(rows[row]), noise[row]) for row in range(2 * N)])
    total = 0.0
    for row in range(N):
        seen = slow.numbers(batch.observations[row])
        tried = [(action, -2.0 * math.log(2.0)) for action in uniform[row]]
        tried += [each[2 * row + k] for each in drawn for k in range(2)]
        data = slow.critic(rule.critics, seen, slow.numbers(batch.actions[row]))
        for member in range(2):
            for value in range(len(gammas)):
                terms = [
                    math.exp(slow.critic(rule.critics, seen, action)[member][value] - density)
                    for action, density in tried
                ]
                total += (math.log(sum(terms)) - float(data[member][value])) / len(gammas) / N
    outputs = rule.critics(prepared.observations, batch.actions)
    assert float(rule.critic_penalty(prepared, outputs).detach()) == pytest.approx(5.0 * total, rel=1e-5)


def test_penalties_are_part_of_the_loss_and_do_not_move_the_actor() -> None:
    rule, batch = make_rule(ConservativeSACConfig(network=SMALL, conservative_weight=2.0)), make_batch(N)
    plain = make_rule(SACConfig(network=SMALL, backup_entropy=False))
    plain.critics.load_state_dict(rule.critics.state_dict())
    plain.critic_targets.load_state_dict(rule.critic_targets.state_dict())
    plain.actor.load_state_dict(rule.actor.state_dict())
    plain.generator.set_state(rule.generator.get_state())
    rule.actor_optimizer.flat.forget()
    with_penalty = rule.learn_critics(rule.prepared(batch)).metrics
    without = plain.learn_critics(plain.prepared(batch)).metrics
    assert float(with_penalty["train/critic_loss"]) == pytest.approx(float(without["train/critic_loss"]), rel=1e-6)
    gradients = [optimizer.flat.gradients for optimizer in (rule.critic_optimizer, plain.critic_optimizer)]
    assert not torch.allclose(*gradients)
    assert float(rule.actor_optimizer.flat.gradients.abs().max()) == 0.0


def test_targets_and_losses_of_batch_constrained_learning() -> None:
    config = BatchConstrainedConfig(network=SMALL, n_proposals=3, min_weight=0.75, perturbation=0.2)
    rule, batch = make_rule(config), make_batch(N)
    with torch.no_grad():
        for parameter in (*rule.critic_targets.parameters(), *rule.actor_target.parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)), alpha=0.3)
    codes = slow.numbers(torch.randn(N * 3, 4, generator=slow.like(rule.generator)))
    found = rule.targets(rule.prepared(batch), None)
    for row in range(N):
        seen = slow.numbers(batch.next_observations[row])
        blended = []
        for k in range(3):
            action = moved(rule.actor_target.network, seen, proposal(rule, seen, codes[3 * row + k]))
            values = [float(one[0]) for one in slow.critic(rule.critic_targets.network, seen, action)]
            blended.append(0.75 * min(values) + 0.25 * max(values))
        right = float(batch.rewards[row, 0]) + float(batch.discounts[row, 0]) * max(blended)
        assert float(found[row, 0, 0]) == pytest.approx(right, abs=1e-5)

    codes = slow.numbers(torch.randn(N, 4, generator=slow.like(rule.generator)))
    loss = float(rule.actor_loss(rule.prepared(batch))[0].detach())
    total = 0.0
    for row in range(N):
        seen = slow.numbers(batch.observations[row])
        action = moved(rule.actor, seen, proposal(rule, seen, codes[row]))
        total -= float(slow.critic(rule.critics, seen, action)[0][0]) / N
    assert loss == pytest.approx(total, rel=1e-5)


def proposal(rule: Any, seen: Any, code: Any) -> Any:
    return np.tanh(slow.network(rule.action_generator.decoder, 0, np.concatenate([seen, np.clip(code, -0.5, 0.5)])))


def moved(perturbation: Any, seen: Any, action: Any) -> Any:
    moves = np.tanh(slow.network(perturbation.body, 0, np.concatenate([seen, action])))
    return np.clip(action + perturbation.largest * moves, -1.0, 1.0)


def test_loss_of_what_proposes() -> None:
    rule, batch = make_rule(BatchConstrainedConfig(network=SMALL)), make_batch(N)
    noise = slow.numbers(torch.randn(N, 4, generator=slow.like(rule.generator)))
    total = 0.0
    for row in range(N):
        seen, action = slow.numbers(batch.observations[row]), slow.numbers(batch.actions[row])
        mean, log_std = np.split(slow.network(rule.action_generator.encoder, 0, np.concatenate([seen, action])), 2)
        log_std = np.clip(log_std, -4.0, 15.0)
        code = mean + np.exp(log_std) * noise[row]
        again = np.tanh(slow.network(rule.action_generator.decoder, 0, np.concatenate([seen, code])))
        divergence = 0.5 * float(np.mean(np.exp(2 * log_std) + mean**2 - 1.0 - 2 * log_std))
        total += (float(np.mean((again - action) ** 2)) + 0.5 * divergence) / N
    assert float(rule.generator_loss(batch).detach()) == pytest.approx(total, rel=1e-5)


def narrow_recording(n: int = 256) -> ReplayBatch:
    """Actions near 0.5 and -0.5, by the sign of what is seen; larger ones are paid for a little more.

    Values of actions far away, which nobody has tried, are anyone's guess.
    """
    generator = torch.Generator().manual_seed(0)
    batch = make_batch(n)
    usual = batch.observations[:, :1].sign() * 0.5
    actions = usual + 0.05 * torch.randn(n, 2, generator=generator)
    return replace(batch, actions=actions, rewards=actions.abs().mean(1, keepdim=True), discounts=torch.zeros(n, 1))


def distance_to_recording(config: RuleConfig, steps: int) -> float:
    rule, batch = make_rule(config), narrow_recording()
    for step in range(1, steps + 1):
        rule.learn(batch, step)
    usual = batch.observations[:, :1].sign() * 0.5
    distances = (rule.act(batch.observations, deterministic=True) - usual).abs()
    return float(distances.mean())


def test_rules_for_recordings_stay_near_them_and_others_do_not() -> None:
    assert distance_to_recording(TD3Config(**FAST), 300) > 0.3
    assert distance_to_recording(TD3BCConfig(**FAST, value_weight=0.1), 300) < 0.15
    assert distance_to_recording(BatchConstrainedConfig(**FAST, generator_learning_rate=1e-2), 300) < 0.15


def test_conservative_critics_value_what_was_never_tried_less() -> None:
    def advantage(config: SACConfig) -> float:
        rule, batch = make_rule(config), narrow_recording()
        for step in range(1, 101):
            rule.learn(batch, step)
        unseen = torch.rand(batch.actions.shape, generator=torch.Generator().manual_seed(3)) * 2.0 - 1.0
        return float((rule.values(batch.observations, batch.actions) - rule.values(batch.observations, unseen)).mean())

    plain = advantage(SACConfig(**FAST))
    assert advantage(ConservativeSACConfig(**FAST)) > plain + 0.5
    in_range = ConservativeSACConfig(
        **FAST, conservatism="range", clip_target_range=(-5.0, 1.0), conservative_weight=1.0
    )
    assert advantage(in_range) > plain + 0.5


def test_deterministic_proposals_are_always_the_same() -> None:
    rule, batch = make_rule(BatchConstrainedConfig(network=SMALL)), make_batch(N)
    first, second = (rule.act(batch.observations, deterministic=True) for _ in range(2))
    assert torch.equal(first, second)
    generator = torch.Generator().manual_seed(0)
    drawn = [rule.act(batch.observations, deterministic=False, generator=generator) for _ in range(2)]
    assert not torch.equal(*drawn)
    alone = rule.act(batch.observations[3:4], deterministic=True)
    torch.testing.assert_close(alone, first[3:4])
