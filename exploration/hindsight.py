"""Hindsight: bits are flipped until they equal a goal, which hardly ever happens, and the reward tells nothing else.

Two learners differ in one entry of the replay's settings: the one that learns as if it had wanted what it achieved
solves the task, the other one never gets to know what a success is. A learner is its parts, joined in one place; put
another rule, another replay or another exploration in, or a part of your own. Set `RL_FRAMEWORK_EXPLORATION_TIMESTEPS`
for a smaller or larger budget.
"""

from __future__ import annotations

import os

from rl_framework import DQNConfig, LearnerConfig, OffPolicyLearner, ReplayConfig, ReplayPart
from rl_framework.algorithms.exploration.epsilon_greedy import EpsilonGreedy, EpsilonGreedyConfig
from rl_framework.envs.goal_tasks.bit_flipping import BitFlipping
from rl_framework.evaluation.evaluate import evaluate_policy
from rl_framework.evaluation.evaluation import Evaluation

TOTAL_TIMESTEPS = int(os.environ.get("RL_FRAMEWORK_EXPLORATION_TIMESTEPS", "8000"))
SEED, N_BITS, N_EPISODES = 1, 10, 200


def joined(relabel: str | None, seed: int) -> OffPolicyLearner:
    """A double DQN that learns from the goals that `relabel` names, or only from those that were asked for."""
    return OffPolicyLearner(
        BitFlipping(1, N_BITS),
        {
            "replay": ReplayPart(
                ReplayConfig(capacity=50_000, batch_size=128, relabel=relabel, relabel_warm_up=0, endings="first_visit")
            ),
            "exploration": EpsilonGreedy(EpsilonGreedyConfig(initial=1.0, final=0.1, decay_steps=4000)),
            "rule": DQNConfig(
                network={"hidden_sizes": (256,)},
                learning_rate=1e-3,
                double=True,
                target_share=0.05,
                clip_target_range=(-50.0, 0.0),
            ).make(),
        },
        LearnerConfig(gamma=0.98, learning_starts=500, random_steps=500, optimize_every=2, device="cpu", seed=seed),
    )


def train(relabel: str | None, seed: int, timesteps: int = TOTAL_TIMESTEPS) -> Evaluation:
    """Learn, and play without exploring."""
    learner = joined(relabel, seed)
    while learner.timesteps < timesteps:
        learner.collect()
        learner.update()
    return evaluate_policy(learner.policy, BitFlipping(N_EPISODES, N_BITS), N_EPISODES, deterministic=True, seed=seed)


def main() -> None:
    for relabel in (None, "future_4"):
        evaluation = train(relabel, SEED)
        print(f"relabel={relabel}: {100 * (evaluation.success_rate or 0.0):.0f}% of the goals of {N_BITS} bits are met")


if __name__ == "__main__":
    main()
