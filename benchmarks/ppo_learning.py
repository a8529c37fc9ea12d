"""What PPO learns: ours against Stable-Baselines3's, with the same parameters, on five tasks and five seeds or more.

The parameters are those published with rl-baselines3-zoo, without generalised state-dependent exploration, which ours
does not have; where a budget is not the published one, the task says so. Both have two layers of 64 tanh units for the
policy and two for the values, orthogonal weights and Adam with an epsilon of 1e-5. Both choose Box actions between -1
and 1 (theirs through Gymnasium's `RescaleAction`), and both normalise by running statistics where the task says so
(theirs by `VecNormalize`). Ours learns in the batched form of a task where there is one. Both are evaluated in
Gymnasium's own environment: the most probable actions, 50 episodes, the same seeds for both.

    python -m benchmarks.ppo_learning [--only ours|theirs] [--tasks NAME ...] [--seeds 5]

Rows that the results file has already are kept, so that a run can be cut and taken up; delete it to begin anew.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
import stable_baselines3 as sb3
import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from benchmarks.side_by_side import RESULTS, machine
from rl_framework.agent.reinforcement.native import NativeAgent
from rl_framework.algorithms.ppo import PPO
from rl_framework.core.policy import BoolArray, PolicyOutput
from rl_framework.core.trees import Tree
from rl_framework.evaluation.evaluate import evaluate_policy
from rl_framework.evaluation.evaluation import Evaluation
from rl_framework.evaluation.statistics import bootstrap_interval
from rl_framework.functional.schedules import AnySchedule, LinearSchedule

FILE = RESULTS / "ppo_learning.json"
N_SEEDS = 5
EPISODES = 50
ADAM_EPSILON = 1e-5
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task and the parameters with which both learn it.

    Attributes:
        environment: Gymnasium's id.
        batched: Name under which it is there as a batched simulation; None if it is not.
        total_timesteps: Budget.
        published_timesteps: Budget in rl-baselines3-zoo.
        normalized: Whether observations and rewards are normalised.
    """

    environment: str
    batched: str | None
    total_timesteps: int
    published_timesteps: int
    n_envs: int
    horizon: int
    minibatch_size: int = 64
    epochs: int
    gamma: float
    gae_lambda: float
    learning_rate: AnySchedule | float = 3e-4
    clip_range: AnySchedule | float = 0.2
    entropy_coefficient: float = 0.0
    normalized: bool = False


TASKS = (
    Task(
        environment="CartPole-v1",
        batched="tensor:CartPole",
        total_timesteps=100_000,
        published_timesteps=100_000,
        n_envs=8,
        horizon=32,
        minibatch_size=256,
        epochs=20,
        gamma=0.98,
        gae_lambda=0.8,
        learning_rate=LinearSchedule(1e-3, 0.0),
        clip_range=LinearSchedule(0.2, 0.0),
    ),
    Task(
        environment="Pendulum-v1",
        batched="tensor:Pendulum",
        total_timesteps=200_000,
        published_timesteps=100_000,
        n_envs=4,
        horizon=1024,
        epochs=10,
        gamma=0.9,
        gae_lambda=0.95,
        learning_rate=1e-3,
    ),
    Task(
        environment="LunarLander-v3",
        batched=None,
        total_timesteps=200_000,
        published_timesteps=1_000_000,
        n_envs=16,
        horizon=1024,
        epochs=4,
        gamma=0.999,
        gae_lambda=0.98,
        entropy_coefficient=0.01,
    ),
    Task(
        environment="MountainCar-v0",
        batched="tensor:MountainCar",
        total_timesteps=250_000,
        published_timesteps=1_000_000,
        n_envs=16,
        horizon=16,
        epochs=4,
        gamma=0.99,
        gae_lambda=0.98,
        normalized=True,
    ),
    Task(
        environment="Acrobot-v1",
        batched="tensor:Acrobot",
        total_timesteps=500_000,
        published_timesteps=1_000_000,
        n_envs=16,
        horizon=256,
        epochs=4,
        gamma=0.99,
        gae_lambda=0.94,
        normalized=True,
    ),
)


def ours(task: Task, seed: int) -> Row:
    """Train and evaluate this library's."""
    agent = NativeAgent(
        PPO,
        {
            "horizon": task.horizon,
            "minibatch_size": task.minibatch_size,
            "epochs": task.epochs,
            "gamma": task.gamma,
            "gae_lambda": task.gae_lambda,
            "learning_rate": task.learning_rate,
            "clip_range": task.clip_range,
            "entropy_coefficient": task.entropy_coefficient,
            "optimizer_parameters": {"eps": ADAM_EPSILON},
            "network": {"hidden_sizes": (64, 64), "activation": "tanh", "normalize_observations": task.normalized},
            "normalize_rewards": "running" if task.normalized else "none",
            "seed": seed,
            "device": "cpu",
        },
    )
    start = time.perf_counter()
    agent.train(task.batched or task.environment, task.total_timesteps, n_envs=task.n_envs, progress_bar=False)
    seconds = time.perf_counter() - start
    evaluation = agent.evaluate(task.environment, EPISODES, deterministic=True, seed=1000 + seed)
    return row(seed, evaluation, agent.timesteps, seconds)


def theirs(task: Task, seed: int) -> Row:
    """Train and evaluate Stable-Baselines3's, with nothing of this library around it."""
    with closing(make_vec_env(partial(scaled, task.environment), task.n_envs, seed=seed)) as plain:
        env = VecNormalize(plain, gamma=task.gamma) if task.normalized else plain
        learner = sb3.PPO(
            "MlpPolicy",
            env,
            n_steps=task.horizon,
            batch_size=task.minibatch_size,
            n_epochs=task.epochs,
            gamma=task.gamma,
            gae_lambda=task.gae_lambda,
            learning_rate=task.learning_rate,
            clip_range=task.clip_range,
            ent_coef=task.entropy_coefficient,
            seed=seed,
            device="cpu",
        )
        start = time.perf_counter()
        learner.learn(task.total_timesteps)
        seconds = time.perf_counter() - start
        policy = TheirPolicy(learner, env if isinstance(env, VecNormalize) else None)
        places = partial(scaled, task.environment)
        evaluation = evaluate_policy(policy, places, EPISODES, deterministic=True, seed=1000 + seed)
    return row(seed, evaluation, learner.num_timesteps, seconds)


class TheirPolicy:
    """Their policy, to be evaluated by the same function as ours."""

    def __init__(self, learner: sb3.PPO, normalization: VecNormalize | None) -> None:
        self.learner = learner
        self.normalization = normalization
        self.observation_space: gym.Space[Any] = learner.observation_space
        self.action_space: gym.Space[Any] = learner.action_space

    def act(
        self,
        observations: Tree,
        state: Tree = None,
        *,
        episode_starts: BoolArray | None = None,  # noqa: ARG002  (there is no memory)
        action_masks: BoolArray | None = None,  # noqa: ARG002  (nor are there masks)
        deterministic: bool = False,
    ) -> PolicyOutput:
        """What it does."""
        seen = observations if self.normalization is None else self.normalization.normalize_obs(observations)
        actions, _ = self.learner.predict(cast("np.ndarray[Any, Any]", seen), deterministic=deterministic)
        return PolicyOutput(actions, state)


def scaled(environment: str) -> gym.Env[Any, Any]:
    """The environment, with Box actions between -1 and 1."""
    env = gym.make(environment)
    one = np.float32(1.0)
    return gym.wrappers.RescaleAction(env, -one, one) if isinstance(env.action_space, gym.spaces.Box) else env


def row(seed: int, evaluation: Evaluation, timesteps: int, seconds: float) -> Row:
    """What one seed gave."""
    return {
        "seed": seed,
        "mean_return": evaluation.mean,
        "interval": list(evaluation.interval),
        "timesteps": timesteps,
        "seconds": round(seconds, 1),
    }


def interval_over_seeds(rows: list[Row]) -> list[float]:
    """Bootstrap interval of the mean over seeds, 95 %."""
    return list(bootstrap_interval([one["mean_return"] for one in rows]))


def summary(rows: dict[str, list[Row]]) -> Row:
    """What can be said of a task that both have learned."""
    if set(rows) != {"ours", "theirs"}:
        return {}
    intervals = {who: interval_over_seeds(some) for who, some in rows.items()}
    (low, high), (their_low, their_high) = intervals["ours"], intervals["theirs"]
    means = {who: float(np.mean([one["mean_return"] for one in some])) for who, some in rows.items()}
    return {"means": means, "intervals_over_seeds": intervals, "overlap": low <= their_high and their_low <= high}


def measure(task: Task, who: str, learn: Callable[[Task, int], Row], path: Path, n_seeds: int = N_SEEDS) -> None:
    """Learn a task from the seeds that the file does not have, 1 and onwards, and add each to it at once."""
    for seed in range(1, n_seeds + 1):
        _, _, rows = entry(path, task, who)
        if all(one["seed"] != seed for one in rows):
            add(path, task, who, learn(task, seed))


def add(path: Path, task: Task, who: str, found: Row) -> None:
    """Put a row into the file as it is now, and what follows from it."""
    content, of_task, rows = entry(path, task, who)
    rows.append(found)
    rows.sort(key=itemgetter("seed"))
    of_task.update(summary(of_task["rows"]))
    content["machine"] = machine()
    path.write_text(json.dumps(content, indent=2) + "\n")
    print(f"{task.environment}, {who}: {found}", flush=True)


def entry(path: Path, task: Task, who: str) -> tuple[Row, Row, list[Row]]:
    """What the file has: all of it, the task in it, and the rows of one of the two there."""
    content = json.loads(path.read_text()) if path.exists() else {"tasks": {}}
    of_task = content["tasks"].setdefault(task.environment, {"parameters": asdict(task), "rows": {}})
    return content, of_task, of_task["rows"].setdefault(who, [])


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("ours", "theirs"), help="leave the other one out")
    parser.add_argument("--tasks", nargs="+", choices=[task.environment for task in TASKS], help="all if left out")
    parser.add_argument("--seeds", type=int, default=N_SEEDS, help="how many, from 1 on")
    parser.add_argument("--file", type=Path, default=FILE, help="where results are kept")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for task in TASKS:
        for who, learn in (("ours", ours), ("theirs", theirs)):
            if arguments.only in (None, who) and (not arguments.tasks or task.environment in arguments.tasks):
                measure(task, who, learn, arguments.file, arguments.seeds)


if __name__ == "__main__":
    main()
