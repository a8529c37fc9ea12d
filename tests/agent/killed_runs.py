"""Trains an agent in child processes, kills them at random moments, resumes, and tells how each of them ended.

Run as a script with a folder, an algorithm and a number of kills; prints one JSON line per kill. The libraries are
imported once, then each run is a fork: it has its own memory and its own files, and starts in milliseconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from rl_framework.agent.catalog import load_agent
from rl_framework.agent.reinforcement.native import NativeAgent
from rl_framework.agent.reinforcement.stable_baselines.agent import StableBaselinesAgent
from rl_framework.agent.reinforcement.stable_baselines.algorithms import algorithm_named
from rl_framework.agent.reinforcement_learning_agent import RLAgent
from rl_framework.algorithms.off_policy import OffPolicy
from rl_framework.callbacks.checkpoint_schedule import CheckpointSchedule
from rl_framework.core.trees import leaves

SMALL = {"net_arch": [16]}
NATIVE = {
    "rule": {"kind": "sac", "network": {"hidden_sizes": [16]}},
    "replay": {"batch_size": 16, "capacity": 500},
    "learning_starts": 100,
    "random_steps": 100,
    "optimize_every": 4,
    "device": "cpu",
}
RUNS: dict[str, tuple[str, int, int, dict[str, Any]]] = {
    "PPO": ("CartPole-v1", 2, 2000, {"n_steps": 50, "batch_size": 50, "n_epochs": 2, "policy_kwargs": SMALL}),
    "DQN": ("CartPole-v1", 1, 1200, {"learning_starts": 100, "buffer_size": 1000, "policy_kwargs": SMALL}),
    "OffPolicy": ("Pendulum-v1", 2, 1200, NATIVE),
    "OffPolicy mapped": ("Pendulum-v1", 2, 1200, NATIVE),
}


def make_agent(algorithm: str, folder: Path) -> RLAgent:
    """An untrained agent; a replay in files lies beside the checkpoints."""
    parameters = {**RUNS[algorithm][3], "seed": 0}
    if not algorithm.startswith("OffPolicy"):
        return StableBaselinesAgent(algorithm_named(algorithm), parameters)
    if algorithm.endswith("mapped"):
        parameters["replay"] = {**parameters["replay"], "folder": str(folder / "replay")}
    return NativeAgent(OffPolicy, parameters)


def train(algorithm: str, folder: Path) -> str:
    """Train with a checkpoint every 200 steps; the digest of the final weights."""
    environment, n_envs, steps, _ = RUNS[algorithm]
    agent = make_agent(algorithm, folder.with_name(folder.name + "-files"))
    agent.train(environment, steps, n_envs=n_envs, checkpoint=CheckpointSchedule(folder, 200), progress_bar=False)
    return digest(agent)


def resume(folder: Path) -> dict[str, Any]:
    """Finish the run whose checkpoints are in the folder."""
    agent = load_agent(folder)
    if not isinstance(agent, RLAgent):
        raise TypeError(agent)
    start = agent.timesteps
    agent.resume(checkpoint=CheckpointSchedule(folder, 200), progress_bar=False)
    return {"resumed_at": start, "ended_at": agent.timesteps, "digest": digest(agent)}


def digest(agent: RLAgent) -> str:
    """A digest of the networks, bit for bit."""
    content = hashlib.sha256()
    for name, tensor in sorted(networks(agent).items()):
        content.update(name.encode() + tensor.numpy().tobytes())
    return content.hexdigest()


def networks(agent: RLAgent) -> dict[str, torch.Tensor]:
    """What an agent has learned, by name."""
    if isinstance(agent, StableBaselinesAgent):
        return dict(agent.model.policy.state_dict())
    if not isinstance(agent, NativeAgent):
        raise TypeError(agent)
    learned = leaves(agent.algorithm.state_dict()["parts"]["rule"])
    return {str(number): leaf for number, leaf in enumerate(learned) if isinstance(leaf, torch.Tensor)}


def fork(work: Callable[[], Any], answer: Path) -> int:
    """Do some work in a child process; its result goes to a file as JSON."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        torch.set_num_threads(1)
        answer.write_text(json.dumps(work()))
        code = 0
    finally:
        os._exit(code)


def finish(child: int, answer: Path) -> Any:
    """Wait for a child and read what it answered."""
    _, status = os.waitpid(child, 0)
    if status != 0:
        raise RuntimeError(f"child process ended with status {status}")
    return json.loads(answer.read_text())


def kill_once(algorithm: str, folder: Path, delay: float) -> dict[str, Any]:
    """Start a run, kill it some seconds after its first checkpoint, and finish it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    checkpoints, answer = folder / "checkpoints", folder / "answer.json"
    child = fork(lambda: train(algorithm, checkpoints), answer)
    wait_for_a_checkpoint(checkpoints)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status)
    return {"killed": killed, **finish(fork(lambda: resume(checkpoints), answer), answer)}


def wait_for_a_checkpoint(folder: Path) -> None:
    """Wait until something can be resumed; gives up after a minute."""
    for _ in range(30_000):
        if any(folder.glob("step_*")):
            return
        time.sleep(0.002)
    raise TimeoutError(folder)


def main() -> None:
    """Run once without interruption, then kill and resume."""
    folder, algorithm, kills, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    child = fork(lambda: train(algorithm, folder / "whole"), folder / "whole.json")
    wait_for_a_checkpoint(folder / "whole")
    start = time.perf_counter()
    expected = finish(child, folder / "whole.json")
    duration = time.perf_counter() - start
    moments, killed = random.Random(seed), 0
    while killed < kills:  # a run that was over before its moment came does not count
        outcome = kill_once(algorithm, folder / "killed", moments.uniform(0.0, duration))
        killed += outcome["killed"]
        print(json.dumps({**outcome, "expected": expected}), flush=True)  # noqa: T201  # the answer of this script


if __name__ == "__main__":
    main()
