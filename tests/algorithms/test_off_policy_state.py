"""Learners do not disturb each other, and go on from what they saved as if nothing had happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rl_framework.algorithms.off_policy import OffPolicy
from rl_framework.checkpoints.state_tree import read_state, write_state
from rl_framework.envs.tensor_env import as_tensor_env
from rl_framework.errors import InvalidInputError, SpaceError
from tests.algorithms.off_policy_learners import (
    RULES,
    config_for,
    environments_for,
    learner_for,
    numbers_of,
    run,
    same,
    tensors_of,
)

KINDS = sorted(RULES)


@pytest.mark.parametrize("kind", KINDS)
def test_two_learners_in_turns_are_as_each_alone(kind: str) -> None:
    alone = [learner_for(kind, seed=seed) for seed in (0, 1)]
    for learner in alone:
        run(learner, 25)
    together = [learner_for(kind, seed=seed) for seed in (0, 1)]
    for _ in range(25):
        for learner in together:
            run(learner, 1)
            torch.rand(3)
    for one, other in zip(alone, together, strict=True):
        assert one.updates > 0
        assert same(numbers_of(one), numbers_of(other))
    assert not same(numbers_of(alone[0]), numbers_of(alone[1]))


def resumed(kind: str, learner: OffPolicy, folder: Path) -> OffPolicy:
    """Another learner, from files, in environments that were put back."""
    env_state = learner.environments.state_dict()
    write_state(folder, "learner", {"algorithm": learner.state_dict(), "environments": env_state})
    saved = read_state(folder, "learner")
    env = environments_for(kind)
    env.reset(seed=99)
    other = OffPolicy(env, config_for(kind, seed=77))
    other.load_state_dict(saved["algorithm"])
    observations = as_tensor_env(env, "cpu").load_state_dict(saved["environments"])
    other.begin(observations, timesteps=0, target_timesteps=1000, resumes=True)
    return other


def advanced(learner: OffPolicy, rounds: int) -> OffPolicy:
    """The learner, after some rounds."""
    run(learner, rounds)
    return learner


def learner_begins(learner: OffPolicy) -> None:
    """Give a learner new episodes."""
    learner.begin(learner.environments.reset(5), timesteps=0, target_timesteps=1000)


@pytest.mark.parametrize("kind", KINDS)
def test_goes_on_from_files_bit_for_bit(kind: str, tmp_path: Path) -> None:
    learner = learner_for(kind)
    run(learner, 80)
    assert learner.updates > 100
    other = resumed(kind, learner, tmp_path)
    generators = [each.generator.get_state() for each in (learner, other)]
    batches = [learner.parts["rule"].replay.sample(8), other.parts["rule"].replay.sample(8)]  # type: ignore[attr-defined]  # it has one
    assert torch.equal(batches[0].rows, batches[1].rows)
    assert same(*(tensors_of([batch.observations, batch.rewards, batch.discounts]) for batch in batches))
    for each, state in zip((learner, other), generators, strict=True):
        each.generator.set_state(state)
    for _ in range(10):
        run(learner, 1)
        run(other, 1)
        assert same(numbers_of(learner), numbers_of(other))


@pytest.mark.parametrize("kind", KINDS)
def test_learners_with_one_state_go_their_own_ways(kind: str) -> None:
    state = advanced(learner_for(kind), 30).state_dict()
    one, other = learner_for(kind), learner_for(kind)
    for learner in (one, other):
        learner.load_state_dict(state)
    before = numbers_of(other)
    learner_begins(one)
    run(one, 20)
    assert same(numbers_of(other), before)
    assert not same(numbers_of(one), before)


def test_a_state_of_another_kind_of_learner_is_refused() -> None:
    state = learner_for("sac").state_dict()
    with pytest.raises(InvalidInputError, match="goals"):
        learner_for("ddpg with goals").load_state_dict(state)


def test_a_replay_for_other_observations_is_refused() -> None:
    state = learner_for("dqn with priorities").state_dict()
    with pytest.raises(SpaceError, match="The saved replay does not fit"):
        learner_for("dqn with hindsight").load_state_dict(state)


def test_without_its_replay_a_learner_begins_with_an_empty_one(tmp_path: Path) -> None:
    replay = {"capacity": 150, "batch_size": 8, "is_saved": False}
    learner = learner_for("sac", replay=replay)
    run(learner, 30)
    write_state(tmp_path, "learner", learner.state_dict())
    other = OffPolicy(environments_for("sac"), config_for("sac", replay=replay))
    other.load_state_dict(read_state(tmp_path, "learner"))
    rules: list[Any] = [tensors_of(each.state_dict()["parts"]["rule"]) for each in (learner, other)]
    assert same(*rules)
    assert learner.parts["replay"].n_learnable == 60  # type: ignore[attr-defined]  # it is the replay
    assert other.parts["replay"].n_learnable == 0  # type: ignore[attr-defined]  # likewise


def test_moving_to_other_environments_keeps_everything() -> None:
    learner = learner_for("sac")
    run(learner, 30)
    before = tensors_of(learner.state_dict()["parts"]["rule"])
    env = environments_for("sac", n_envs=3)
    learner.move_to(env)
    learner.begin(env.reset(seed=1), timesteps=0, target_timesteps=0)
    assert same(before, tensors_of(learner.state_dict()["parts"]["rule"]))
    report = learner.collect()
    assert report.timesteps == 3
    assert learner.timesteps == 63
