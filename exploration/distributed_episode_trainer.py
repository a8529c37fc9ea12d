"""The episode trainer in several processes: each plays CartPole for itself, and all learn one policy.

    torchrun --standalone --nproc-per-node 2 --max-restarts 3 exploration/distributed_episode_trainer.py

`python exploration/distributed_episode_trainer.py` does the same in one process. If a process is killed, torchrun
starts all of them again, and they go on from the latest checkpoint, as does a later call with the same folder: the
result is that of a training that nobody has killed. torchrun 2.13 needs `TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1` in the
environment to start processes again. On a machine with GPUs, each process takes one.

Set `RL_FRAMEWORK_EXPLORATION_TIMESTEPS` for a smaller or larger budget.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rl_framework import (
    AccelerateProcesses,
    DistributedCheckpoints,
    JointTraining,
    VTraceAWR,
    VTraceAWRConfig,
    open_environments,
)
from rl_framework.evaluation.evaluate import evaluate_policy

TOTAL_TIMESTEPS = int(os.environ.get("RL_FRAMEWORK_EXPLORATION_TIMESTEPS", "60000"))
FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/distributed_episode_trainer")
SEED, N_ENVS, STEPS_PER_ROUND = 0, 8, 2000


def main() -> None:
    processes = AccelerateProcesses()
    # What all processes together collect, and learn from at a time, is the same for any number of them.
    env = open_environments("CartPole-v1", n_envs=N_ENVS // processes.count, vectorization="serial")
    config = VTraceAWRConfig(
        steps_per_update=STEPS_PER_ROUND // processes.count,
        minibatch_timesteps=1000 // processes.count,
        value_minibatch_size=500 // processes.count,
        seed=SEED,
    )
    learner = VTraceAWR(env, config, processes=processes)
    checkpoints = DistributedCheckpoints(FOLDER / "checkpoints", processes)
    training = JointTraining(learner, env, processes, checkpoints=checkpoints, every_timesteps=2 * STEPS_PER_ROUND)
    for report in training.run(TOTAL_TIMESTEPS, seed=SEED):
        if processes.rank == 0 and report.mean_return is not None:
            print(f"{report.timesteps:>7} steps: mean return {report.mean_return:.1f}", flush=True)
    if processes.rank == 0:
        result = evaluate_policy(learner.policy, "CartPole-v1", 20, deterministic=True, seed=1)
        print(f"Number of processes: {processes.count}. Mean return of their policy: {result.mean:.1f}")
    env.close()
    processes.close()


if __name__ == "__main__":
    main()
