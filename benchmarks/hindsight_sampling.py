"""Minibatches with hindsight from a replay, side by side with Stable-Baselines3's `HerReplayBuffer.sample`.

Both hold the same transitions of one environment with goals that are cheap to reward (a point on a plane, observations
like FetchReach's), and relabel four in five goals with future ones. Both are asked through the environment's own
`compute_reward`: Stable-Baselines3 through its vector environment, as it does in training.

Stable-Baselines3 looks through its whole ring for episodes that are over whenever it samples, so that it gets slower
with the capacity; the small ring shows what is left of the difference without that.

    python -m benchmarks.hindsight_sampling
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor

from benchmarks.side_by_side import Comparison, compare, write_results
from rl_framework.data.replay_buffer import ReplayBuffer
from rl_framework.data.replay_columns import transition_columns
from rl_framework.data.sampling.hindsight import Hindsight
from rl_framework.data.sampling.replay_sampler import ReplaySampler
from rl_framework.data.sampling.uniform import UniformSelection

BATCH_SIZES = (256, 1024)
REQUIRED = {1_000_000: 5.0, 10_000: 1.0}
"""By capacity. A million is the one that both libraries take unless told otherwise, and the one of the promise."""
EPISODE = 50
WARM_UP = 5_000
SECONDS = 1.0

ACTIONS = spaces.Box(-1.0, 1.0, (4,), np.float32)
GOALS = spaces.Box(-np.inf, np.inf, (3,), np.float32)
OBSERVATIONS = spaces.Dict(
    {"observation": spaces.Box(-np.inf, np.inf, (10,), np.float32), "achieved_goal": GOALS, "desired_goal": GOALS}
)


class Reaching(gym.Env[dict[str, Any], Any]):
    """An environment of which only the spaces and the reward are of interest."""

    observation_space, action_space = OBSERVATIONS, ACTIONS

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, _info: Any) -> Any:
        """0 near the goal, -1 elsewhere. `[N]`"""
        return -(np.linalg.norm(achieved_goal - desired_goal, axis=-1) > 0.05).astype(np.float32)


def random_episode(rng: np.random.Generator) -> dict[str, Any]:
    """One episode in columns. `[T, ...]` per leaf"""
    widths = {"observation": 10, "achieved_goal": 3, "desired_goal": 3}
    seen = {key: rng.normal(size=(EPISODE + 1, width)).astype(np.float32) for key, width in widths.items()}
    seen["desired_goal"][:] = seen["desired_goal"][0]
    return {
        "observations": {key: values[:-1] for key, values in seen.items()},
        "next_observations": {key: values[1:] for key, values in seen.items()},
        "actions": rng.uniform(-1.0, 1.0, (EPISODE, 4)).astype(np.float32),
        "rewards": -np.ones(EPISODE, np.float32),
        "terminated": np.zeros(EPISODE, bool),
        "environment_goals": seen["desired_goal"][:-1],
    }


def our_sampler(capacity: int) -> ReplaySampler:
    """A full replay of ours."""
    replay = ReplayBuffer(capacity, transition_columns(OBSERVATIONS, ACTIONS, GOALS))
    rng = np.random.default_rng(0)
    for _ in range(capacity // EPISODE):
        replay.add_episode(random_episode(rng))
    environment = Reaching()

    def reward(achieved: Tensor, desired: Tensor) -> Tensor:
        return torch.from_numpy(environment.compute_reward(achieved.numpy(), desired.numpy(), {}))

    relabel = Hindsight(mixture="future_4", reward=reward, warm_up=WARM_UP)
    return ReplaySampler(replay, UniformSelection(replay), gammas=(0.98,), relabel=relabel)


def their_buffer(capacity: int) -> HerReplayBuffer:
    """A full replay of theirs, with the same transitions."""
    venv = DummyVecEnv([Reaching])
    buffer = HerReplayBuffer(capacity, OBSERVATIONS, ACTIONS, venv, device="cpu", n_sampled_goal=4)
    rng = np.random.default_rng(0)
    for _ in range(capacity // EPISODE):
        episode = random_episode(rng)
        for step in range(EPISODE):
            seen, following = (
                {key: values[None, step] for key, values in episode[name].items()}
                for name in ("observations", "next_observations")
            )
            over = np.array([step == EPISODE - 1])
            timeout = {"TimeLimit.truncated": bool(over[0])}
            buffer.add(seen, following, episode["actions"][None, step], episode["rewards"][None, step], over, [timeout])
    return buffer


def rate(sample: Callable[[], object]) -> Callable[[], float]:
    """Minibatches per second."""

    def measured() -> float:
        begin, done = time.perf_counter(), 0
        while time.perf_counter() - begin < SECONDS:
            for _ in range(10):
                sample()
            done += 10
        return done / (time.perf_counter() - begin)

    return measured


def compared(capacity: int) -> list[Comparison]:
    """All batch sizes with replays of one capacity."""
    sampler, buffer = our_sampler(capacity), their_buffer(capacity)
    generator = torch.Generator().manual_seed(0)
    return [
        compare(
            f"hindsight, {size} transitions of {capacity:,}",
            rate(partial(sampler.sample, size, generator)),
            rate(partial(buffer.sample, size)),
            unit="minibatches/s",
            required_ratio=REQUIRED[capacity],
        )
        for size in BATCH_SIZES
    ]


def main() -> None:
    """Measure and write the results."""
    torch.set_num_threads(1)
    write_results("hindsight_sampling", [comparison for capacity in REQUIRED for comparison in compared(capacity)])


if __name__ == "__main__":
    main()
