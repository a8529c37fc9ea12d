"""Goals of one's own: a maze whose far end nobody reaches by chance, explored by wanting what was rarely achieved.

Two learners differ in one part. One pursues the goal of the environment, beyond two bends of the maze; the other one,
by MEGA (Pitis et al., 2020), the least dense of the places where it has been and that it believes to be within reach.
What they have seen of the maze is told as the entropy of the cells that they were in, at most log 15 = 2.71. Set
`RL_FRAMEWORK_EXPLORATION_TIMESTEPS` for a smaller or larger budget.
"""

from __future__ import annotations

import os
from functools import partial

import torch

from rl_framework import DDPGConfig, LearnerConfig, MEGAConfig, OffPolicyLearner, ReplayConfig, ReplayPart
from rl_framework.algorithms.exploration.action_noise import GaussianNoise, GaussianNoiseConfig
from rl_framework.envs.goal_tasks.point_maze import PointMaze2D
from rl_framework.evaluation.evaluate import evaluate_policy

TOTAL_TIMESTEPS = int(os.environ.get("RL_FRAMEWORK_EXPLORATION_TIMESTEPS", "24000"))
SEED, N_MAZES, N_EPISODES, N_REPORTS = 1, 4, 50, 6
MAZE = """\
+-+-+-+-+-+-+-+
|G            |
+-+-+-+-+-+-+ +
|           | |
+-+-+-+-+-+-+ +
|S            |
+-+-+-+-+-+-+-+
"""
maze = partial(PointMaze2D, layout=MAZE)


def joined(goals: MEGAConfig | None, seed: int) -> OffPolicyLearner:
    """DDPG with hindsight that pursues the goals that are selected, or those of the environments."""
    rule = DDPGConfig(
        network={"hidden_sizes": (128, 128), "activation": "gelu", "layer_norm": True},
        normalize_observations=True,
        n_critics=1,
        target_share=0.05,
        target_every=40,
        clip_target_range=(-50.0, 0.0),
        action_l2=0.1,
        gradient_value_clip=5.0,
    )
    replay = ReplayConfig(capacity=100_000, batch_size=128, relabel="rfaab_1_4_3_1_1", relabel_warm_up=2000)
    parts = {
        "replay": ReplayPart(replay),
        "goals": None if goals is None else goals.make(),
        "exploration": GaussianNoise(GaussianNoiseConfig(std=0.1, epsilon=0.1)),
        "rule": rule.make(),
    }
    config = LearnerConfig(
        gamma=0.98, learning_starts=1000, random_steps=1000, optimize_every=2, device="cpu", seed=seed
    )
    return OffPolicyLearner(maze(N_MAZES), parts, config)


def entropy(learner: OffPolicyLearner) -> float:
    """Of the cells of the maze in all that happened so far, in nats."""
    replay = learner.parts.get(ReplayPart).buffer
    places = replay.read(["next_observations.achieved_goal"], torch.arange(len(replay)))
    cells = places["next_observations.achieved_goal"].round()
    shares = cells.unique(dim=0, return_counts=True)[1] / len(cells)
    return -float((shares * shares.log()).sum())


def main() -> None:
    for name, goals in (("the environment's", None), ("MEGA's", MEGAConfig())):
        learner = joined(goals, SEED)
        for report in range(1, N_REPORTS + 1):
            while learner.timesteps < TOTAL_TIMESTEPS * report // N_REPORTS:
                learner.collect()
                learner.update()
            played = evaluate_policy(learner.policy, maze(N_EPISODES), N_EPISODES, deterministic=True, seed=SEED)
            seen, success = entropy(learner), 100 * (played.success_rate or 0.0)
            print(f"{name} goals, {learner.timesteps} steps: entropy {seen:.2f}, success {success:.0f}%")


if __name__ == "__main__":
    main()
