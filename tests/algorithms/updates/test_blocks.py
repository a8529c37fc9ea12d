"""Updates in one piece come to the same as one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from rl_framework.algorithms.replay_config import ReplayConfig
from rl_framework.algorithms.replay_part import ReplayPart
from rl_framework.algorithms.updates.base import RuleConfig
from rl_framework.algorithms.updates.blocks import MOST_ROWS, MOST_STEPS, block_of, minibatches
from rl_framework.algorithms.updates.ddpg import DDPGConfig
from rl_framework.algorithms.updates.dqn import DQNConfig
from rl_framework.algorithms.updates.sac import SACConfig
from rl_framework.algorithms.updates.td3 import TD3Config
from tests.algorithms.updates.rule_workshops import ACTIONS, CHOICES, SMALL, GivenReplay, make_batch, make_workshop

SIZE = 4
STEADY: Mapping[str, RuleConfig] = {
    "ddpg": DDPGConfig(network=SMALL, target_every=4),
    "td3": TD3Config(network=SMALL, target_every=4, target_noise=0.0),
    "waves": TD3Config(network=SMALL, target_every=4, target_noise=0.0, fourier_octaves=3),
    "quantiles": DDPGConfig(network=SMALL, critic="quantile", target_every=4, normalize_observations=True),
    "dqn": DQNConfig(network=SMALL, target_every=4),
    "dueling": DQNConfig(network=SMALL, dueling=True, target_every=4),
}
OTHERS: Mapping[str, RuleConfig] = {
    "the critics themselves choose": DQNConfig(network=SMALL, double=True, target_every=4),
    "weights are drawn for each update": DQNConfig(network=SMALL, n_critics=2, combination="random_ensemble"),
    "the actor itself chooses": TD3Config(network=SMALL, online_target_actor=True, target_every=4),
    "actions are drawn from the actor": SACConfig(network=SMALL, target_every=4),
    "targets follow every time": DDPGConfig(network=SMALL, target_every=1),
}


def rule_of(config: RuleConfig, replay: ReplayPart) -> Any:
    return make_workshop(config, actions=CHOICES if isinstance(config, DQNConfig) else ACTIONS, replay=replay)[0]


class DrawsAhead(GivenReplay):
    """Gives the same batch each time, and does not want to hear of errors."""

    @property
    def heeds_errors(self) -> bool:
        return False


def weights(rule: Any) -> list[Tensor]:
    return [tensor for network in rule.networks().values() for tensor in network.state_dict().values()]


@pytest.mark.parametrize("name", STEADY)
def test_a_block_learns_what_its_minibatches_teach_one_by_one(name: str) -> None:
    whole = make_batch(4 * SIZE, is_discrete=isinstance(STEADY[name], DQNConfig))
    together = rule_of(STEADY[name], DrawsAhead(whole))
    alone = rule_of(STEADY[name], DrawsAhead(whole))
    assert together.block(range(1, 100)) == range(1, 5)
    metrics = together.optimize_block(range(1, 5))
    batches = minibatches(alone.prepared(whole), SIZE)
    learned = [alone.learn(batch, step) for step, batch in enumerate(batches, 1)][-1]
    assert together.replay.asked == [4 * SIZE]
    for found, right in zip(weights(together), weights(alone), strict=True):
        torch.testing.assert_close(found, right, atol=1e-6, rtol=1e-5)
    assert set(metrics) == set(learned.metrics)
    for key, value in learned.metrics.items():
        torch.testing.assert_close(metrics[key], value, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", OTHERS)
def test_updates_go_one_by_one_where_each_changes_the_targets(name: str) -> None:
    rule = rule_of(OTHERS[name], DrawsAhead())
    assert rule.block(range(5, 100)) == range(5, 6)


def test_updates_go_one_by_one_where_the_replay_heeds_their_errors() -> None:
    heeding = ReplayPart(ReplayConfig(capacity=8, batch_size=SIZE, selection="prioritized"))
    assert heeding.heeds_errors
    assert not heeding.can_draw_ahead
    indifferent = ReplayPart(ReplayConfig(capacity=8, batch_size=SIZE, selection="trajectory"))
    assert not indifferent.heeds_errors
    assert indifferent.can_draw_ahead
    assert rule_of(STEADY["ddpg"], GivenReplay()).block(range(1, 9)) == range(1, 2)


def test_blocks_end_where_targets_follow_and_have_bounds() -> None:
    assert block_of(range(1, 9), 3, 16) == range(1, 4)
    assert block_of(range(3, 9), 3, 16) == range(3, 4)
    assert block_of(range(4, 6), 3, 16) == range(4, 6)
    assert len(block_of(range(1, 999), 1000, 16)) == MOST_STEPS
    assert len(block_of(range(1, 999), 1000, 1024)) == MOST_ROWS // 1024
    assert len(block_of(range(1, 999), 1000, 10 * MOST_ROWS)) == 1
