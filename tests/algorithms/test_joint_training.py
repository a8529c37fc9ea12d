"""The training loop of several processes, run by one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rl_framework.algorithms.distributed_checkpoints import DistributedCheckpoints
from rl_framework.algorithms.joint_training import JointReport, JointTraining
from rl_framework.algorithms.processes import OneProcess, process_seed
from rl_framework.algorithms.vtrace_awr import VTraceAWR
from rl_framework.algorithms.vtrace_awr_config import VTraceAWRConfig
from rl_framework.envs.source import open_environments
from rl_framework.envs.vector_env import VectorEnv
from rl_framework.errors import ArchiveError, InvalidInputError
from tests.algorithms.joined_trainers import digest, weights
from tests.algorithms.joint_runs import SMALL, STEPS

ROUNDS = 4


class WithMoreElsewhere(OneProcess):
    """Process 1 of two, the other of which has three environments more."""

    rank, count = 1, 2

    def largest(self, number: float) -> float:
        """Of this process's number and one that is greater by 3."""
        return number + 3.0 if number > 0.0 else number


def environments() -> VectorEnv:
    """Two."""
    return open_environments("CartPole-v1", n_envs=2, vectorization="serial")


def joint_training(folder: Path | None = None, every_timesteps: int = STEPS) -> tuple[VTraceAWR, JointTraining]:
    """A learner, and what trains it."""
    env = environments()
    learner = VTraceAWR(env, VTraceAWRConfig(**SMALL))
    checkpoints = None if folder is None else DistributedCheckpoints(folder, keep_last=None)
    return learner, JointTraining(learner, env, checkpoints=checkpoints, every_timesteps=every_timesteps)


def saved_steps(folder: Path) -> list[int]:
    """Of all checkpoints."""
    return sorted(int(path.name.removeprefix("step_")) for path in folder.glob("step_*"))


def test_rounds_are_reported_until_the_steps_are_taken() -> None:
    learner, training = joint_training()
    reports = list(training.run(ROUNDS * STEPS - 1, seed=5))
    assert [report.timesteps for report in reports] == [STEPS, 2 * STEPS, 3 * STEPS, 4 * STEPS]
    assert sum(report.episodes for report in reports) == learner.n_episodes
    assert reports[-1].metrics["train/updates"] == learner.updates == 4
    assert all(report.mean_return is None or report.mean_return > 5.0 for report in reports)
    assert learner.progress == 1.0


def test_nothing_happens_before_a_report_is_asked_for() -> None:
    learner, training = joint_training()
    rounds = training.run(STEPS, seed=5)
    assert learner.updates == 0
    assert isinstance(next(rounds), JointReport)
    assert learner.updates == 1


@pytest.mark.parametrize("n_rounds", [1, 3])
def test_a_training_that_was_left_goes_on_as_if_it_had_not_been(n_rounds: int, tmp_path: Path) -> None:
    whole, training = joint_training()
    expected = list(training.run(ROUNDS * STEPS, seed=5))
    _, interrupted = joint_training(tmp_path)
    for _, report in zip(range(n_rounds), interrupted.run(ROUNDS * STEPS, seed=5), strict=False):
        assert report in expected
    torch.rand(7)
    learner, resumed = joint_training(tmp_path)
    assert list(resumed.run(ROUNDS * STEPS, seed=5)) == expected[n_rounds:]
    assert digest(weights(learner)) == digest(weights(whole))


def test_a_training_that_is_over_does_nothing_and_has_learned(tmp_path: Path) -> None:
    first, training = joint_training(tmp_path)
    assert len(list(training.run(STEPS, seed=5))) == 1
    second, again = joint_training(tmp_path)
    assert list(again.run(STEPS, seed=5)) == []
    assert digest(weights(first)) == digest(weights(second))


def test_checkpoints_lie_where_steps_cross_multiples_and_at_the_end(tmp_path: Path) -> None:
    _, training = joint_training(tmp_path, every_timesteps=100)
    list(training.run(7 * STEPS, seed=5))
    assert saved_steps(tmp_path) == [120, 240, 300, 420]


def test_environments_are_seeded_by_the_rank_too() -> None:
    env = environments()
    first = env.reset(seed=process_seed(5, 0))
    second = env.reset(seed=process_seed(5, 1))
    assert not (first == second).any()


def test_processes_with_unequal_numbers_of_environments_are_refused() -> None:
    env = environments()
    training = JointTraining(VTraceAWR(env, VTraceAWRConfig(**SMALL)), env, WithMoreElsewhere())
    with pytest.raises(InvalidInputError, match="they have 2 to 5, and process 1 has 2"):
        next(training.run(STEPS, seed=5))


def test_checkpoints_of_something_else_are_refused(tmp_path: Path) -> None:
    DistributedCheckpoints(tmp_path).save(3, shared={}, own={"mine": 1})
    _, training = joint_training(tmp_path)
    with pytest.raises(ArchiveError, match="not written by a JointTraining"):
        next(training.run(STEPS, seed=5))


def test_steps_between_checkpoints_must_be_positive() -> None:
    with pytest.raises(InvalidInputError, match="every_timesteps must be at least 1"):
        joint_training(every_timesteps=0)
