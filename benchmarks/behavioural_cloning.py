"""Behavioural cloning: ours against `BC` of the imitation library, on the same data, network and batch size.

50 episodes of CartPole-v1 by a scripted controller that always reaches 500 (a linear feedback of the state, so that
no expert has to be trained), 25,000 transitions; batches of 32, two layers of 32 tanh units, Adam at 0.001, entropy
weight 0.001: the library's defaults, which are ours, too. Two comparisons, alternating in one process on one thread:

- until a deterministic evaluation over 20 episodes reaches 475: trained in portions of 100 batches, each followed by
  an evaluation, which is the same for both and not counted; the time of the training calls, making the learner
  included. Each pair starts from a seed of its own, the same for both.
- the same number of batches, four epochs, in one call; and what each of the two is worth after them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from imitation.algorithms.bc import BC
from imitation.data.rollout import flatten_trajectories
from imitation.data.types import Trajectory, Transitions
from imitation.util import logger as imitation_logger

from benchmarks.side_by_side import Comparison, Limit, compare, write_results
from rl_framework import BehaviouralCloningAgent
from rl_framework.core.policy import BoolArray, Policy, PolicyOutput
from rl_framework.core.trees import Tree
from rl_framework.evaluation.evaluate import evaluate_policy
from rl_framework.testing.demonstrations import cart_pole_episodes

ENVIRONMENT = "CartPole-v1"
N_EPISODES = 50
EXPERT_RETURN, GOAL = 500.0, 475.0
BATCH_SIZE = 32
PORTION = 100
MOST_BATCHES = 6000
EPOCHS_BATCHES = 4 * N_EPISODES * 500 // BATCH_SIZE
PAIRS = 7
REQUIRED_RATIO = 3.0


class LibraryPolicy:
    """The library's policy, to be evaluated by the same function as ours."""

    def __init__(self, policy: Any) -> None:
        self.policy = policy
        self.observation_space: gym.Space[Any] = policy.observation_space
        self.action_space: gym.Space[Any] = policy.action_space

    def act(
        self,
        observations: Tree,
        state: Tree = None,
        *,
        episode_starts: BoolArray | None = None,  # noqa: ARG002  (there is no memory)
        action_masks: BoolArray | None = None,  # noqa: ARG002  (nor are there masks)
        deterministic: bool = False,
    ) -> PolicyOutput:
        actions, _ = self.policy.predict(observations, deterministic=deterministic)
        return PolicyOutput(actions, state)


@dataclass
class Ours:
    """Our learner."""

    seed: int
    agent: BehaviouralCloningAgent = field(init=False)

    def __post_init__(self) -> None:
        self.agent = BehaviouralCloningAgent({"batch_size": BATCH_SIZE, "seed": self.seed}, device="cpu")

    def train(self, n_batches: int) -> None:
        self.agent.train(cart_pole_episodes(N_EPISODES), n_batches * BATCH_SIZE, progress_bar=False)

    @property
    def policy(self) -> Policy:
        return self.agent.policy


@dataclass
class Theirs:
    """The library's learner, without its console output."""

    seed: int
    learner: BC = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(self.seed)
        env = gym.make(ENVIRONMENT)
        self.learner = BC(
            observation_space=env.observation_space,
            action_space=env.action_space,
            rng=np.random.default_rng(self.seed),
            demonstrations=library_transitions(),
            batch_size=BATCH_SIZE,
            custom_logger=imitation_logger.HierarchicalLogger(imitation_logger.configure(format_strs=[])),
            device="cpu",
        )

    def train(self, n_batches: int) -> None:
        self.learner.train(n_batches=n_batches, progress_bar=False)

    @property
    def policy(self) -> Policy:
        return LibraryPolicy(self.learner.policy)


@cache
def library_transitions() -> Transitions:
    """The same episodes in the library's own form, made once."""
    return flatten_trajectories(
        [
            Trajectory(obs=one.observations, acts=one.actions, infos=None, terminal=one.terminated)
            for one in cart_pole_episodes(N_EPISODES)
        ]
    )


Learner = Callable[[int], Ours | Theirs]


def value_of(policy: Policy) -> float:
    """Mean return of 20 episodes."""
    return evaluate_policy(policy, ENVIRONMENT, 20, deterministic=True, seed=0).mean


def goals_per_hour(make: Learner, seed: int) -> float:
    """How often per hour of training the goal would be reached."""
    start = time.perf_counter()
    learner = make(seed)
    seconds = time.perf_counter() - start
    for _ in range(0, MOST_BATCHES, PORTION):
        start = time.perf_counter()
        learner.train(PORTION)
        seconds += time.perf_counter() - start
        if value_of(learner.policy) >= GOAL:
            return 3600.0 / seconds
    raise RuntimeError(f"{make.__name__} did not reach {GOAL} within {MOST_BATCHES} batches from seed {seed}.")


def batches_per_second(make: Learner, seed: int, shortfalls: list[float]) -> float:
    """Speed of four epochs; what the result lacks of the expert's return is noted."""
    start = time.perf_counter()
    learner = make(seed)
    learner.train(EPOCHS_BATCHES)
    seconds = time.perf_counter() - start
    shortfalls.append(EXPERT_RETURN - value_of(learner.policy))
    return EPOCHS_BATCHES / seconds


def measure() -> tuple[list[Comparison], list[Limit]]:
    """All figures of this file."""
    library_transitions()
    shortfalls: dict[Any, list[float]] = {Ours: [], Theirs: []}
    seeds = {(make, what): count() for make in (Ours, Theirs) for what in ("goal", "epochs")}
    comparisons = [
        compare(
            f"Behavioural cloning: times that a return of {GOAL:.0f} is reached, ours against imitation's BC",
            lambda: goals_per_hour(Ours, next(seeds[Ours, "goal"])),
            lambda: goals_per_hour(Theirs, next(seeds[Theirs, "goal"])),
            unit="times/hour",
            required_ratio=REQUIRED_RATIO,
            pairs=PAIRS,
        ),
        compare(
            "Behavioural cloning: batches of 32, four epochs, ours against imitation's BC",
            lambda: batches_per_second(Ours, next(seeds[Ours, "epochs"]), shortfalls[Ours]),
            lambda: batches_per_second(Theirs, next(seeds[Theirs, "epochs"]), shortfalls[Theirs]),
            unit="batches/s",
            required_ratio=REQUIRED_RATIO,
            pairs=PAIRS,
        ),
    ]
    limits = [
        Limit(f"{who} after four epochs: {EXPERT_RETURN:.0f} less the mean return", tuple(found), "", 25.0)
        for who, found in (("Ours", shortfalls[Ours]), ("imitation's BC", shortfalls[Theirs]))
    ]
    for limit in limits:
        print(limit, flush=True)
    return comparisons, limits


if __name__ == "__main__":
    torch.set_num_threads(1)
    write_results("behavioural_cloning", *measure())
