"""Wall time until PPO balances the pole: ours against Stable-Baselines3's with its published parameters.

Solved is a deterministic policy whose 20 episodes have a mean return of at least 475. Both are asked after every 2,000
steps, by the same code, whose time is not counted. Both train in the same eight Python CartPoles; ours once more in
eight batched ones. A run that does not get there within the published budget counts as one that took until its end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO as SB3PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import LinearSchedule as SB3LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv

from benchmarks.ppo_runs import ENVIRONMENT, N_ENVS
from rl_framework import Callback, LinearSchedule, NativeAgent, NullConnector, Report
from rl_framework.algorithms.ppo import PPO
from rl_framework.callbacks.base import RunHandle
from rl_framework.envs.tensor_tasks.cart_pole import CartPole

GOAL = 475.0
EPISODES = 20
CHECK_EVERY = 2_000
BUDGET = 100_000
MOST_STEPS = 500
FIRST_SEED = 100
PUBLISHED: dict[str, Any] = {"n_steps": 32, "batch_size": 256, "gae_lambda": 0.8, "gamma": 0.98, "n_epochs": 20}
FALLING: dict[str, Any] = {"learning_rate": 0.001, "clip_range": 0.2}
"""They fall from there to 0 in a line. These and `PUBLISHED` are what rl-baselines3-zoo has for CartPole-v1."""
OURS: dict[str, Any] = {
    "horizon": 128,
    "minibatch_size": 256,
    "gae_lambda": 0.8,
    "gamma": 0.98,
    "epochs": 6,
    "learning_rate": LinearSchedule(0.003, 0.0),
    "clip_range": LinearSchedule(0.2, 0.0),
    "device": "cpu",
}
"""Found by trials with other seeds: longer rollouts and a third of the published number of optimiser steps."""
Choose = Callable[[Any], Any]


class Clock:
    """Counts the seconds of a training, and asks from time to time whether it is solved."""

    def __init__(self) -> None:
        self.is_solved = False
        self._checked, self._elsewhere = 0, 0.0
        self._begin = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Of training, without the questions."""
        return time.perf_counter() - self._begin - self._elsewhere

    def ask(self, timesteps: int, choose: Choose) -> bool:
        """Whether the policy has reached the goal; it is tried when 2,000 further steps were taken."""
        if timesteps - self._checked >= CHECK_EVERY:
            asked = time.perf_counter()
            self._checked = timesteps - timesteps % CHECK_EVERY
            self.is_solved = mean_return(choose) >= GOAL
            self._elsewhere += time.perf_counter() - asked
        return self.is_solved


def mean_return(choose: Choose) -> float:
    """Of 20 episodes of CartPole, side by side.

    Args:
        choose: Gives actions for observations. `[B, 4]` to `[B]`
    """
    env = CartPole(EPISODES)
    observations = env.reset(seed=1)
    running, steps = np.ones(EPISODES, dtype=bool), 0
    for _ in range(MOST_STEPS):
        steps += int(running.sum())
        step = env.step(torch.as_tensor(choose(observations.numpy())))
        running &= ~(step.terminated | step.truncated).numpy()
        observations = step.observations
        if not running.any():
            break
    return steps / EPISODES


class _Asking(Callback):
    """Ends our run when it is solved."""

    every_timesteps = CHECK_EVERY

    def __init__(self, agent: NativeAgent, clock: Clock) -> None:
        self._agent, self._clock = agent, clock

    def on_report(self, run: RunHandle, report: Report) -> None:
        if self._clock.ask(report.timesteps, self._choose):
            run.stop("solved")

    def _choose(self, observations: Any) -> Any:
        return self._agent.policy.act(observations, deterministic=True).actions


class _SB3Asking(BaseCallback):
    """Ends theirs."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def _on_rollout_start(self) -> None:
        self._clock.ask(self.num_timesteps, lambda seen: self.model.predict(seen, deterministic=True)[0])

    def _on_step(self) -> bool:
        return not self._clock.is_solved


def solve(make_env: Callable[[], Any], parameters: dict[str, Any], seed: int) -> float:
    """Runs per minute of ours, from the call of `train` to a solved task."""
    environments = make_env()
    agent = NativeAgent(PPO, {**parameters, "seed": seed})
    clock = Clock()
    summary = agent.train(
        environments,
        BUDGET,
        connector=NullConnector(),
        callbacks=[_Asking(agent, clock)],
        vectorization="serial",
        progress_bar=False,
    )
    return _rate("ours", clock, summary.taken_timesteps)


def sb3_solve(seed: int) -> float:
    """Runs per minute of Stable-Baselines3's, from building the model to a solved task."""
    env = DummyVecEnv([partial(gym.make, ENVIRONMENT) for _ in range(N_ENVS)])
    clock = Clock()
    parameters = {name: SB3LinearSchedule(first, 0.0, 1.0) for name, first in FALLING.items()}
    model = SB3PPO("MlpPolicy", env, device="cpu", seed=seed, **{**PUBLISHED, **parameters})
    model.learn(BUDGET, callback=_SB3Asking(clock))
    env.close()
    return _rate("Stable-Baselines3", clock, model.num_timesteps)


def runs() -> list[tuple[str, Callable[[], float], Callable[[], float]]]:
    """What is compared: a name, ours, theirs; every call takes the next seed."""
    python = partial(_next_run, count(FIRST_SEED), partial(solve, _python_environments, OURS))
    batched = partial(_next_run, count(FIRST_SEED), partial(solve, partial(CartPole, N_ENVS), OURS))
    theirs = "a return of 475, against Stable-Baselines3's with its published parameters"
    return [
        (f"Runs of PPO per minute to {theirs}: ours, the same Python CartPoles", python, _sb3_runs()),
        (f"Runs of PPO per minute to {theirs}: ours, eight batched CartPoles", batched, _sb3_runs()),
    ]


def _sb3_runs() -> Callable[[], float]:
    return partial(_next_run, count(FIRST_SEED), sb3_solve)


def _next_run(seeds: count[int], run: Callable[..., float]) -> float:
    return run(seed=next(seeds))


def _python_environments() -> list[gym.Env[Any, Any]]:
    return [gym.make(ENVIRONMENT) for _ in range(N_ENVS)]


def _rate(who: str, clock: Clock, steps: int) -> float:
    outcome = "solved" if clock.is_solved else "NOT solved"
    print(f"  {who}: {outcome} after {steps:,} steps, {clock.seconds:.1f} s", flush=True)
    return 60.0 / clock.seconds
