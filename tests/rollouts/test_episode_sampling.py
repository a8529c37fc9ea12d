from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from rl_framework.errors import InvalidInputError
from rl_framework.nn.model import Model
from rl_framework.rollouts import episode_sampling
from rl_framework.rollouts.episode_sampling import sample_episodes
from rl_framework.rollouts.sampling import sample
from rl_framework.rollouts.scoring import score
from tests.data.rollouts import assert_same
from tests.rollouts.counting_env import CountingEnv
from tests.rollouts.tiny_models import TinyModel, TinyRecurrent, generator

every_model = pytest.mark.parametrize("make", [TinyModel, lambda: TinyModel(separate=True), TinyRecurrent])


def test_every_row_plays_its_quota_and_rests() -> None:
    rollout = sample_episodes(TinyModel(), CountingEnv([2, 3, 5], is_cut=[False, True, False]), 2, max_length=50)

    assert len(rollout) == 10
    assert rollout.valid is not None
    assert rollout.valid.sum(0).tolist() == [4, 6, 10]
    assert rollout.valid.int().diff(dim=0).max() <= 0, "a row that rests does not wake up"
    assert rollout.rewards[:, 0].tolist() == [1, 2, 1, 2, 0, 0, 0, 0, 0, 0]
    assert rollout.ended.sum(0).tolist() == [2, 2, 2]
    assert rollout.truncated.sum(0).tolist() == [0, 2, 0]
    assert [(one.row, one.length, one.total_reward) for one in rollout.episodes] == [
        (0, 2, 3.0), (1, 3, 6.0), (0, 2, 3.0), (2, 5, 15.0), (1, 3, 6.0), (2, 5, 15.0),
    ]  # fmt: skip
    assert rollout.next is None


@every_model
def test_it_is_what_sampling_gives_where_rows_play(make: Callable[[], Model]) -> None:
    lengths, cut = [2, 4, 4], [True, False, True]
    policy = make()
    rollout = sample_episodes(policy, CountingEnv(lengths, is_cut=cut), max_length=9, generator=generator())
    plain = sample(policy, CountingEnv(lengths, is_cut=cut), 4, generator=generator())
    assert rollout.valid is not None

    assert len(rollout) == 4
    for (name, column), (_, twin) in zip(
        replace(rollout, valid=None).named_columns(), plain.named_columns(), strict=True
    ):
        assert torch.equal(column[rollout.valid], twin[rollout.valid]), name
    resting = ~rollout.valid
    for quantity in (rollout.log_prob, rollout.values, rollout.next_values, *rollout.extras.values()):
        assert quantity is not None
        assert not quantity[resting].any()
    assert not rollout.ended[resting].any()
    assert not rollout.advantages(0.9, 0.9)[resting].any()
    assert torch.allclose(rollout.advantages(0.9, 0.9)[:2, 0], plain.advantages(0.9, 0.9)[:2, 0], atol=1e-6)


@every_model
def test_what_still_runs_at_the_limit_is_cut_and_valued(make: Callable[[], Model]) -> None:
    policy = make()
    rollout = sample_episodes(policy, CountingEnv([3, 30]), max_length=6, generator=generator())
    longer = sample(policy, CountingEnv([3, 30]), 7, generator=generator())

    assert len(rollout) == 6
    assert rollout.truncated[:, 1].tolist() == [False] * 5 + [True]
    assert not rollout.truncated[:, 0].any()
    assert rollout.next_values is not None
    assert longer.values is not None
    assert torch.allclose(rollout.next_values[5, 1], longer.values[6, 1], atol=1e-6)
    assert [(one.row, one.length) for one in rollout.episodes] == [(0, 3), (1, 6)]


def test_the_environments_own_summaries_are_kept() -> None:
    rollout = sample_episodes(TinyModel(), CountingEnv([2, 30], keeps_books=True), 2, max_length=6)

    assert [(one.row, one.length, one.success) for one in rollout.episodes] == [
        (0, 2, True),
        (0, 2, True),
        (1, 6, None),
    ]


def test_where_nobody_looks_the_result_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = sample_episodes(TinyRecurrent(), CountingEnv([2, 3, 5]), max_length=40, generator=generator())
    monkeypatch.setattr("rl_framework.rollouts.step_recorder.can_look", lambda device: False)
    monkeypatch.setattr(episode_sampling, "LOOK_INTERVAL", 3)
    env = CountingEnv([2, 3, 5])
    blind = sample_episodes(TinyRecurrent(), env, max_length=40, generator=generator())

    assert_same(blind, looked)
    assert len(env.actions) == 7


@every_model
def test_it_can_be_scored_and_batched(make: Callable[[], Model]) -> None:
    policy = make()
    rollout = sample_episodes(policy, CountingEnv([2, 5, 3]), 1, max_length=8)
    assert rollout.valid is not None
    assert rollout.log_prob is not None

    assert torch.allclose(score(policy, rollout).log_prob[rollout.valid], rollout.log_prob[rollout.valid], atol=1e-6)
    (batch,) = rollout.minibatches()
    assert batch.valid is not None
    assert int(batch.valid.sum()) == 10


def test_gradients_are_carried() -> None:
    policy = TinyRecurrent()
    rollout = sample_episodes(policy, CountingEnv([2, 5]), max_length=8, gradients=True)

    assert rollout.log_prob is not None
    assert torch.autograd.grad(rollout.log_prob.sum(), policy.begin)[0].any()


@pytest.mark.parametrize("wrong", [{"n_episodes_per_row": 0}, {"max_length": 0}, {"state_interval": 0}])
def test_numbers_are_refused_before_anything_happens(wrong: dict[str, Any]) -> None:
    env = CountingEnv([3])

    with pytest.raises(InvalidInputError, match=next(iter(wrong))):
        sample_episodes(TinyModel(), env, **{"max_length": 5, **wrong})
    assert env.n_resets == 0
