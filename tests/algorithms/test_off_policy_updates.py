"""Updates in graphs are the very updates that they stand for."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from rl_framework.algorithms.host_access import HostAccessRefused
from rl_framework.algorithms.off_policy import OffPolicy
from rl_framework.algorithms.updates import blocks
from rl_framework.envs.goal_rewards import DistanceReward
from tests.algorithms.off_policy_learners import SMALL, config_for, environments_for, run, same, tensors_of
from tests.algorithms.replay_backend import ReplayBackend

CAPTURED = ("sac", "td3", "ddpg with noise", "dqn with priorities", "dqn with goals on the device")


def learner(kind: str, backend: ReplayBackend | None, **settings: Any) -> OffPolicy:
    env = environments_for(kind)
    made = OffPolicy(env, config_for(kind, **settings), graphs=backend)
    made.begin(env.reset(seed=3), timesteps=0, target_timesteps=1000)
    return made


@pytest.fixture
def _one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Updates outside of graphs are not taken together."""
    monkeypatch.setattr(blocks, "block_of", lambda steps, target_every, batch_size: steps[:1])


def learned(made: OffPolicy) -> list[torch.Tensor]:
    """What updates change: networks, optimisers, priorities, and how far was drawn."""
    state = made.state_dict()
    return tensors_of([state["parts"], state["generators"]])


@pytest.mark.usefixtures("_one_by_one")
@pytest.mark.parametrize("kind", CAPTURED)
def test_graphs_do_what_single_updates_do(kind: str) -> None:
    backend = ReplayBackend()
    one, other = learner(kind, None), learner(kind, backend)
    for made in (one, other):
        run(made, 30)
    assert sum(backend.replays) > 10
    assert one.updates == other.updates
    assert same(learned(one), learned(other))


@pytest.mark.usefixtures("_one_by_one")
def test_there_is_a_graph_for_each_thing_that_is_not_done_in_every_step() -> None:
    rule = {"kind": "td3", "network": SMALL, "policy_every": 2, "target_every": 3}
    backend = ReplayBackend()
    one, other = (learner("td3", each, rule=rule) for each in (None, backend))
    for made in (one, other):
        run(made, 50)
    assert len(backend.replays) == 4
    assert same(learned(one), learned(other))


def test_a_graph_holds_several_updates() -> None:
    backend = ReplayBackend()
    made = learner("sac", backend, updates_per_graph=5)
    run(made, 25)
    assert len(backend.replays) == 1
    assert (made.updates, made.state_dict()["counters"]["due"]) == (30, 2)


def test_without_graphs_everything_is_called_as_it_is() -> None:
    backend = ReplayBackend()
    run(learner("sac", backend, updates_per_graph=0), 20)
    assert backend.replays == []


@pytest.mark.parametrize("kind", CAPTURED)
def test_an_update_never_waits_for_the_device(kind: str) -> None:
    made = learner(kind, None)
    run(made, 15)
    with HostAccessRefused(torch.device("cpu")):
        for step in range(1, 5):
            made.policy.rule.optimize(step)


def test_a_reward_on_the_host_keeps_updates_out_of_graphs(caplog: pytest.LogCaptureFixture) -> None:
    backend = ReplayBackend()
    one, other = (learner("dqn with hindsight", each) for each in (None, backend))
    with caplog.at_level(logging.WARNING):
        for made in (one, other):
            run(made, 25)
    assert "runs without a CUDA graph" in caplog.text
    assert same(learned(one), learned(other))


def test_a_new_run_learns_from_what_its_own_environments_pay() -> None:
    one, other = (learner("dqn with goals on the device", each) for each in (None, ReplayBackend()))
    for made in (one, other):
        run(made, 20)
        env = environments_for("dqn with goals on the device")
        env.tensor_env.goal_reward = DistanceReward(1.5)  # type: ignore[attr-defined]  # it has one
        made.move_to(env)
        made.begin(env.reset(seed=4), timesteps=0, target_timesteps=0)
        run(made, 20)
    assert same(learned(one), learned(other))


def test_loading_captures_anew() -> None:
    backend = ReplayBackend()
    made = learner("sac", backend)
    run(made, 20)
    made.load_state_dict(made.state_dict())
    before = list(backend.replays)
    made.begin(made.environments.reset(1), timesteps=0, target_timesteps=0)
    run(made, 10)
    assert len(backend.replays) > len(before)
