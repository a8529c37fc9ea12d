"""How fast goals are learned to be reached: curves of success rates, in `benchmarks/results/goal_learning.json`.

FetchPush-v4 with DDPG and hindsight; and the 10x10 maze with goals that the learner chooses itself (MEGA), beside plain
hindsight with the same settings. Each point is 100 episodes, deterministic, with seeds that were never seen. A run
ends at its budget, or when two points in a row are at least `ENOUGH`.

    python -m benchmarks.goal_learning --task fetch-push --seed 1
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.side_by_side import RESULTS, machine
from rl_framework import NativeAgent
from rl_framework.algorithms.off_policy import OffPolicy
from rl_framework.cli.preset import preset_named

EPISODES = 100
ENOUGH = 0.97
FILE = RESULTS / "goal_learning.json"


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is learned, and how.

    Attributes:
        environment: Its id.
        n_envs: Environments side by side.
        budget: Environment steps.
        every: Steps between two points of the curve.
        vectorization: How they run.
        parameters: Fields of `OffPolicyConfig`.
    """

    environment: str
    n_envs: int
    budget: int
    every: int
    vectorization: str = "auto"
    parameters: Mapping[str, Any] = field(default_factory=dict)


DDPG: Mapping[str, Any] = {
    "kind": "ddpg",
    "learning_rate": 1e-3,
    "actor_learning_rate": 1e-3,
    "n_critics": 1,
    "target_share": 0.05,
    "clip_target_range": (-50.0, 0.0),
    "normalize_observations": True,
}
MEGA: Mapping[str, Any] = preset_named("pointmaze-native-mega-fourier").parameters
MAZE: Mapping[str, Any] = {**MEGA, "rule": {"kind": "ddpg", **MEGA["rule"]}, "goals": None}
TASKS = {
    "fetch-push": Task(
        environment="FetchPush-v4",
        n_envs=8,
        budget=500_000,
        every=25_000,
        vectorization="serial",
        parameters={
            "rule": {
                **DDPG,
                "network": {"hidden_sizes": (128, 128, 128)},
                "target_every": 10,
                "action_l2": 1.0,
            },
            "replay": {
                "batch_size": 512,
                "relabel": "futureactual_2_2",
                "selection": {"kind": "trajectory", "temperature": 0.2},
            },
            "exploration": {"kind": "gaussian", "std": 0.2, "epsilon": 0.2},
            "gamma": 0.98,
            "optimize_every": 2,
            "learning_starts": 5_000,
            "random_steps": 40_000,
        },
    ),
    "maze-mega": Task(
        environment="tensor:PointMaze2D",
        n_envs=8,
        budget=250_000,
        every=25_000,
        parameters={**MAZE, "goals": MEGA["goals"]},
    ),
    "maze-hindsight": Task(environment="tensor:PointMaze2D", n_envs=8, budget=250_000, every=25_000, parameters=MAZE),
}


def learn(name: str, task: Task, seed: int) -> None:
    """Train one agent, and write its curve down point by point."""
    agent = NativeAgent(OffPolicy, {**task.parameters, "seed": seed, "device": "cpu"})
    curve: list[dict[str, Any]] = []
    start = time.perf_counter()
    while agent.timesteps < task.budget:
        agent.train(
            task.environment, task.every, n_envs=task.n_envs, vectorization=task.vectorization, progress_bar=False
        )
        evaluation = agent.evaluate(task.environment, EPISODES, deterministic=True, seed=1000 + seed)
        point = {
            "timesteps": agent.timesteps,
            "success_rate": evaluation.success_rate,
            "mean_return": evaluation.mean,
            "seconds": round(time.perf_counter() - start),
        }
        curve.append(point)
        print(name, seed, point, flush=True)
        write(name, task, seed, curve)
        if len(curve) > 1 and min(float(each["success_rate"]) for each in curve[-2:]) >= ENOUGH:
            return


def write(name: str, task: Task, seed: int, curve: list[dict[str, Any]]) -> None:
    """Put a curve into the file; those of other tasks and seeds stay."""
    table = json.loads(FILE.read_text()) if FILE.exists() else {"tasks": {}}
    table["machine"] = machine()
    known = table["tasks"].setdefault(name, {})
    known["environment"] = task.environment
    known["n_envs"] = task.n_envs
    known["parameters"] = task.parameters
    known.setdefault("seeds", {})[str(seed)] = curve
    FILE.write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=sorted(TASKS), required=True)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    learn(arguments.task, TASKS[arguments.task], arguments.seed)
