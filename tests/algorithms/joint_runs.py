"""A short training by several processes, which may be killed on the way: run by `torchrun` with a folder."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from typing_extensions import override

from rl_framework.algorithms.accelerate_processes import AccelerateProcesses
from rl_framework.algorithms.base import UpdateReport
from rl_framework.algorithms.distributed_checkpoints import DistributedCheckpoints
from rl_framework.algorithms.joint_training import OWN_STATE, JointTraining
from rl_framework.algorithms.processes import Processes
from rl_framework.algorithms.vtrace_awr import VTraceAWR
from rl_framework.algorithms.vtrace_awr_config import VTraceAWRConfig
from rl_framework.checkpoints.state_tree import write_state
from rl_framework.envs.source import open_environments
from tests.algorithms.joined_trainers import digest, weights

N_ENVS, STEPS, ROUNDS = 2, 60, 8
TOTAL = 2 * ROUNDS * STEPS
SMALL: dict[str, Any] = {
    "steps_per_update": STEPS,
    "minibatch_timesteps": 40,
    "epochs": 2,
    "value_warmup_epochs": 2,
    "value_hidden_sizes": (8,),
    "value_dropout": 0.2,
    "network": {"hidden_sizes": (8,)},
    "device": "cpu",
    "seed": 3,
}


class KilledLearner(VTraceAWR):
    """Process 1 dies in its fifth update, before it meets the other one."""

    @override
    def update(self) -> UpdateReport:
        """Die or learn."""
        if self.processes.rank == 1 and restarts() == 0 and self.updates == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().update()


class KilledCheckpoints(DistributedCheckpoints):
    """After the first restart process 0 dies in its second save, when all have written their parts."""

    n_saves = 0

    @override
    def _fill(self, content: Path, step: int, shared: Any) -> None:
        self.n_saves += 1
        if restarts() == 1 and self.n_saves == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        super()._fill(content, step, shared)


def restarts() -> int:
    """How often the launcher has started all processes again."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def train(processes: Processes, folder: Path, *, is_killed: bool = False) -> dict[str, Any]:
    """Train, or go on; what became of it."""
    env = open_environments("CartPole-v1", n_envs=N_ENVS, vectorization="serial")
    learner = (KilledLearner if is_killed else VTraceAWR)(env, VTraceAWRConfig(**SMALL), processes=processes)
    checkpoints = (KilledCheckpoints if is_killed else DistributedCheckpoints)(folder, processes)
    training = JointTraining(learner, env, processes, checkpoints=checkpoints, every_timesteps=2 * 2 * STEPS)
    reports = [[each.timesteps, each.episodes, each.mean_return] for each in training.run(TOTAL, seed=5)]
    env.close()
    return {
        "reports": reports,
        "weights": digest(weights(learner)),
        "common": common_state(learner, folder.parent / f"common_{processes.rank}"),
        "drawn": torch.rand(3).tolist(),
        "acting": digest([learner.state_dict()["acting"]]),
        "replay": [record.length for record in learner.replay],
        "restarts": restarts(),
    }


def common_state(learner: VTraceAWR, folder: Path) -> str:
    """A digest of what a checkpoint holds once for all processes."""
    folder.mkdir(exist_ok=True)
    write_state(folder, "state", {name: part for name, part in learner.state_dict().items() if name not in OWN_STATE})
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(folder.iterdir()))).hexdigest()


def main() -> None:
    """Train, and write down what became of it."""
    folder = Path(sys.argv[1])
    processes = AccelerateProcesses()
    outcome = train(processes, folder / "checkpoints", is_killed=True)
    (folder / f"outcome_{processes.rank}.json").write_text(json.dumps(outcome))
    processes.close()


if __name__ == "__main__":
    main()
