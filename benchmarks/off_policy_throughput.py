"""Updates per second of SAC, TD3 and DQN: ours against Stable-Baselines3's.

Both sides have the same networks (two hidden layers, separate twin critics for SAC and TD3), batch size, optimiser,
delays and target updates, and a replay of 100,000 drawn transitions that they sample from: an update is a minibatch
drawn and all gradient steps that belong to it. Neither acts meanwhile. One comparison is of whole training: steps in
Pendulum-v1, one update after each.

    python -m benchmarks.off_policy_throughput [--only SAC]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, SAC, TD3
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from benchmarks.side_by_side import Comparison, compare, write_results
from rl_framework import NativeAgent
from rl_framework.algorithms.off_policy import OffPolicy
from rl_framework.algorithms.off_policy_config import OffPolicyConfig
from rl_framework.algorithms.replay_part import ReplayPart
from rl_framework.envs.source import open_environments
from rl_framework.testing.environments import AnySpaceEnv

N_STORED = 100_000
LOCOMOTION = (spaces.Box(-1.0, 1.0, (17,)), spaces.Box(-1.0, 1.0, (6,)))
CHOICES = (spaces.Box(-1.0, 1.0, (8,)), spaces.Discrete(4))
Spaces = tuple[gym.Space[Any], gym.Space[Any]]


@dataclass(frozen=True, kw_only=True)
class Case:
    """The same learner, ours and theirs.

    Attributes:
        name: What is compared.
        rule: Our update rule, in its JSON form.
        algorithm_class: Theirs.
        parameters: Theirs, where its defaults are other ones.
        spaces: What is observed and done.
        sizes: Units of the hidden layers.
        batch_size: Transitions per update.
        updates: How many are timed at once.
        required_ratio: What was promised.
        threads: Of torch, for both sides: as many as serve the other one best.
    """

    name: str
    rule: Mapping[str, Any]
    algorithm_class: type[OffPolicyAlgorithm]
    parameters: Mapping[str, Any]
    spaces: Spaces
    sizes: tuple[int, ...]
    batch_size: int
    updates: int
    required_ratio: float
    threads: int = 2


DQN_RULE: Mapping[str, Any] = {
    "kind": "dqn",
    "learning_rate": 1e-4,
    "target_share": 1.0,
    "target_every": 10_000,
    "gradient_norm_clip": 10.0,
}
CASES = [
    Case(
        name="SAC, 2x256, batches of 256, learned temperature",
        rule={"kind": "sac"},
        algorithm_class=SAC,
        parameters={},
        spaces=LOCOMOTION,
        sizes=(256, 256),
        batch_size=256,
        updates=150,
        required_ratio=1.5,
    ),
    Case(
        name="TD3, 2x256, batches of 256",
        rule={"kind": "td3", "target_every": 2},
        algorithm_class=TD3,
        parameters={"batch_size": 256, "policy_kwargs": {"net_arch": [256, 256]}},
        spaces=LOCOMOTION,
        sizes=(256, 256),
        batch_size=256,
        updates=200,
        required_ratio=1.5,
    ),
    Case(
        name="DQN, 2x64, batches of 32",
        rule=DQN_RULE,
        algorithm_class=DQN,
        parameters={"batch_size": 32},
        spaces=CHOICES,
        sizes=(64, 64),
        batch_size=32,
        updates=1000,
        required_ratio=2.5,
        threads=1,
    ),
    Case(
        name="DQN, 2x64, batches of 128",
        rule=DQN_RULE,
        algorithm_class=DQN,
        parameters={"batch_size": 128},
        spaces=CHOICES,
        sizes=(64, 64),
        batch_size=128,
        updates=1000,
        required_ratio=2.5,
        threads=1,
    ),
]


def our_updates(case: Case) -> Callable[[], float]:
    """Something that takes updates and gives their rate."""
    config = OffPolicyConfig(
        rule={**case.rule, "network": {"hidden_sizes": case.sizes}},
        replay={"capacity": N_STORED, "batch_size": case.batch_size},
        device="cpu",
        seed=0,
    )
    learner = OffPolicy(open_environments([AnySpaceEnv(*case.spaces)]), config)
    fill(learner, case.spaces)

    def rate() -> float:
        start = time.perf_counter()
        learner.optimize(case.updates)
        return case.updates / (time.perf_counter() - start)

    return rate


def fill(learner: OffPolicy, spaces_of_case: Spaces) -> None:
    """Put drawn transitions into our replay."""
    drawn = drawn_transitions(spaces_of_case)
    entries = {name: torch.as_tensor(drawn[name]) for name in drawn}
    learner.parts.get(ReplayPart).buffer.add_episode(entries)


def their_updates(case: Case) -> Callable[[], float]:
    """Likewise for the other library."""
    settings: dict[str, Any] = {"buffer_size": N_STORED, "device": "cpu", "seed": 0, **case.parameters}
    settings["policy_kwargs"] = {"net_arch": list(case.sizes)}
    model = case.algorithm_class("MlpPolicy", AnySpaceEnv(*case.spaces), **settings)
    model.set_logger(Logger(folder=None, output_formats=[]))
    drawn = drawn_transitions(case.spaces)
    replay = model.replay_buffer
    assert replay is not None
    for index in range(N_STORED):
        replay.add(
            drawn["observations"][index],
            drawn["next_observations"][index],
            drawn["actions"][index],
            drawn["rewards"][index],
            drawn["terminated"][index],
            [{}],
        )

    def rate() -> float:
        start = time.perf_counter()
        model.train(gradient_steps=case.updates, batch_size=case.batch_size)
        return case.updates / (time.perf_counter() - start)

    return rate


def drawn_transitions(spaces_of_case: Spaces) -> dict[str, Any]:
    """The same for both. `[N_STORED, ...]`"""
    rng = np.random.default_rng(0)
    seen, done = spaces_of_case
    shape = (N_STORED, *(seen.shape or ()))
    is_choice = isinstance(done, spaces.Discrete)
    return {
        "observations": rng.uniform(-1, 1, shape).astype(np.float32),
        "next_observations": rng.uniform(-1, 1, shape).astype(np.float32),
        "actions": rng.integers(0, int(done.n), N_STORED)
        if isinstance(done, spaces.Discrete)
        else rng.uniform(-1, 1, (N_STORED, *(done.shape or ()))).astype(np.float32),
        "rewards": rng.normal(size=N_STORED).astype(np.float32),
        "terminated": rng.random(N_STORED) < (0.05 if is_choice else 0.0),
    }


STEPS = 2000
FIRST = 500


def our_training() -> float:
    """Steps per second of an agent that acts and learns."""
    parameters = {"rule": "sac", "learning_starts": FIRST, "random_steps": FIRST, "seed": 0, "device": "cpu"}
    agent = NativeAgent(OffPolicy, parameters)
    start = time.perf_counter()
    agent.train([gym.make("Pendulum-v1")], STEPS, progress_bar=False)
    return STEPS / (time.perf_counter() - start)


def their_training() -> float:
    """Likewise for the other library."""
    model = SAC("MlpPolicy", gym.make("Pendulum-v1"), learning_starts=FIRST, device="cpu", seed=0)
    start = time.perf_counter()
    model.learn(STEPS)
    return STEPS / (time.perf_counter() - start)


def measure(only: str | None, pairs: int) -> list[Comparison]:
    """All comparisons, or those whose name begins in a certain way."""
    made = [partial(measure_case, case, pairs) for case in CASES if only is None or case.name.startswith(only)]
    found = [make() for make in made]
    if only is None or "training".startswith(only):
        torch.set_num_threads(2)
        found.append(
            compare(
                "training SAC on Pendulum-v1, one update per step",
                our_training,
                their_training,
                unit="steps/s",
                required_ratio=1.5,
                pairs=pairs,
            )
        )
    return found


def measure_case(case: Case, pairs: int) -> Comparison:
    """Updates of a learner side by side."""
    torch.set_num_threads(case.threads)
    return compare(
        case.name,
        our_updates(case),
        their_updates(case),
        unit="updates/s",
        required_ratio=case.required_ratio,
        pairs=pairs,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="beginning of the names of the comparisons; others are left out, and no file")
    parser.add_argument("--pairs", type=int, default=7)
    arguments = parser.parse_args()
    comparisons = measure(arguments.only, arguments.pairs)
    if arguments.only is None:
        write_results("off_policy_throughput", comparisons)
