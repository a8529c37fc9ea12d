"""The training loop of several processes: each acts in environments of its own, and all learn one policy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from rl_framework.algorithms.base import Algorithm, CollectReport
from rl_framework.algorithms.distributed_checkpoints import DistributedCheckpoints, SavedTraining
from rl_framework.algorithms.processes import OneProcess, Processes, process_seed
from rl_framework.core.seeding import capture_random_state, restore_random_state, seed_everything
from rl_framework.core.trees import Tree
from rl_framework.envs.vector_env import EnvironmentState, StateLevel, VectorEnv
from rl_framework.errors import ArchiveError, InvalidInputError

OWN_STATE = ("replay", "generator", "counters", "phases", "acting", "rows")
"""Parts of an algorithm's state that are different in each process."""
OWN_PARTS = {"algorithm", "environments", "random"}


@dataclass(frozen=True, kw_only=True, slots=True)
class JointReport:
    """What happened in a round of all processes; the same in each of them.

    Attributes:
        timesteps: Environment steps so far, over all processes.
        episodes: Number of episodes that ended in this round.
        mean_return: Their mean total reward, None if there were none.
        metrics: What the algorithm reported of its update.
    """

    timesteps: int
    episodes: int
    mean_return: float | None
    metrics: Mapping[str, float]


class JointTraining:
    """Trains an algorithm that was given `processes`; each process runs this with environments of its own.

        processes = AccelerateProcesses()
        env = open_environments("CartPole-v1", n_envs=8)
        learner = VTraceAWR(env, VTraceAWRConfig(seed=0), processes=processes)
        checkpoints = DistributedCheckpoints("runs/cart_pole", processes)
        for report in JointTraining(learner, env, processes, checkpoints=checkpoints).run(100_000, seed=0):
            if processes.rank == 0:
                print(report.timesteps, report.mean_return)

    If the folder holds a checkpoint, training goes on from there, as exactly as the environments can be put back: with
    `torchrun --max-restarts`, a process that is killed costs what was done since the latest one.

    Args:
        algorithm: What learns, with a policy that all processes share.
        env: Its environments.
        processes: Those that it was given.
        checkpoints: Where the training is saved; None for nowhere.
        every_timesteps: A checkpoint is written whenever the steps of all processes cross a multiple of this number,
            and at the end.

    Raises:
        InvalidInputError: `every_timesteps` is not positive.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        env: VectorEnv,
        processes: Processes | None = None,
        *,
        checkpoints: DistributedCheckpoints | None = None,
        every_timesteps: int = 10_000,
    ) -> None:
        if every_timesteps < 1:
            raise InvalidInputError(f"every_timesteps must be at least 1, got {every_timesteps}.")
        self._algorithm = algorithm
        self._env = env
        self._processes = processes or OneProcess()
        self._checkpoints = checkpoints
        self._every = every_timesteps

    def run(self, total_timesteps: int, *, seed: int | None = None) -> Iterator[JointReport]:
        """Collect and update in turns, in step with the other processes, and tell of each round after it was saved.

        It goes on as far as it is asked for further reports. Whoever ends it early must do so in all processes, for
        which the reports are a reason: they are the same in each.

        Args:
            total_timesteps: When to end: environment steps over all processes, those before a restart included.
            seed: From it and the rank follow the seeds of the environments and of the process's global generators
                (dropout); they are left as they are if None.

        Raises:
            InvalidInputError: The latest checkpoint was written by another number of processes.
            ArchiveError: A checkpoint cannot be written or read.
        """
        timesteps = self._begin(total_timesteps, seed)
        while timesteps < total_timesteps:
            collected = self._algorithm.collect()
            metrics = self._algorithm.update().metrics
            before, (timesteps, report) = timesteps, self._told(timesteps, collected, metrics)
            if timesteps // self._every > before // self._every or timesteps >= total_timesteps:
                self._save(report)
            yield report

    def _begin(self, total_timesteps: int, seed: int | None) -> int:
        """Start, or go on from the latest checkpoint; the steps so far."""
        self._check_rows()
        saved = None if self._checkpoints is None else self._checkpoints.load_latest()
        observations = self._fresh(seed) if saved is None else self._restored(saved)
        timesteps = 0 if saved is None else saved.step
        count = self._processes.count
        self._algorithm.begin(
            observations,
            timesteps=timesteps // count,
            target_timesteps=-(-total_timesteps // count),
            resumes=saved is not None,
        )
        if saved is not None:
            restore_random_state(saved.own["random"])
        return timesteps

    def _check_rows(self) -> None:
        """Steps are counted, and schedules followed, by each process for itself: they must come to the same."""
        n_envs = self._env.spec.n_envs
        most, fewest = self._processes.largest(n_envs), -self._processes.largest(-n_envs)
        if most != fewest:
            raise InvalidInputError(
                f"Each process needs as many environments as the others; they have {fewest:.0f} to {most:.0f}, and "
                f"process {self._processes.rank} has {n_envs}."
            )

    def _fresh(self, seed: int | None) -> Tree:
        if seed is None:
            return self._env.reset()
        own = process_seed(seed, self._processes.rank)
        seed_everything(own)
        return self._env.reset(seed=own)

    def _restored(self, saved: SavedTraining) -> Tree:
        if not (isinstance(saved.own, dict) and set(saved.own) == OWN_PARTS):
            raise ArchiveError(
                f"Checkpoint {saved.step} is whole, but it was not written by a JointTraining. Give another folder."
            )
        self._algorithm.load_state_dict({**saved.shared, **saved.own["algorithm"]})
        environments = saved.own["environments"]
        return self._env.set_state(
            EnvironmentState(level=StateLevel(environments["level"]), rows=tuple(environments["rows"]))
        )

    def _told(self, timesteps: int, collected: CollectReport, metrics: Mapping[str, float]) -> tuple[int, JointReport]:
        """The steps so far and what to tell of this round, from what happened here and in the other processes."""
        total = sum(episode.total_reward for episode in collected.episodes)
        own = torch.tensor([collected.timesteps, len(collected.episodes), total], dtype=torch.float64)
        steps, episodes, returns = self._processes.sum(own).tolist()
        timesteps += int(steps)
        mean = returns / episodes if episodes else None
        return timesteps, JointReport(timesteps=timesteps, episodes=int(episodes), mean_return=mean, metrics=metrics)

    def _save(self, report: JointReport) -> None:
        if self._checkpoints is None:
            return
        state = self._algorithm.state_dict()
        environments = self._env.get_state()
        own = {
            "algorithm": {name: state.pop(name) for name in OWN_STATE if name in state},
            "environments": {"level": int(environments.level), "rows": list(environments.rows)},
            "random": capture_random_state(),
        }
        self._checkpoints.save(report.timesteps, shared=state, own=own, score=report.mean_return)
