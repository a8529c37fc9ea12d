"""Small off-policy learners for tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import torch

from rl_framework.algorithms.off_policy import OffPolicy
from rl_framework.algorithms.off_policy_config import OffPolicyConfig
from rl_framework.algorithms.off_policy_learner import OffPolicyLearner
from rl_framework.core.trees import leaves
from rl_framework.envs.goal_tasks.gymnasium_tasks import BitFlippingEnv, PointUMaze2DEnv
from rl_framework.envs.source import open_environments
from rl_framework.envs.vector_env import VectorEnv

SMALL = {"hidden_sizes": (8,)}
HINDSIGHT = {"relabel": "rfaab_1_4_3_1_1", "relabel_warm_up": 20}
RULES: dict[str, dict[str, Any]] = {
    "sac": {"rule": {"kind": "sac"}},
    "td3": {"rule": {"kind": "td3", "normalize_observations": True}},
    "ddpg with noise": {"rule": {"kind": "ddpg"}, "exploration": "ornstein_uhlenbeck"},
    "dqn with priorities": {"rule": {"kind": "dqn"}, "replay": {"selection": "prioritized"}},
    "dqn with hindsight": {"rule": {"kind": "dqn"}, "replay": HINDSIGHT},
    "dqn with goals on the device": {"rule": {"kind": "dqn"}, "replay": HINDSIGHT},
    "ddpg with goals": {
        "rule": {"kind": "ddpg"},
        "replay": HINDSIGHT,
        "goals": {"kind": "mega", "episode_steps": 12, "n_candidates": 10},
    },
    "ddpg with goals, OMEGA by novelty": {
        "rule": {"kind": "ddpg"},
        "replay": HINDSIGHT,
        "goals": {
            "kind": "omega",
            "density": {"kind": "novelty", "hidden_size": 8, "batch_size": 16},
            "mixing": {"every": 5, "n_desired": 20, "n_achieved": 40},
            "overshoot": 0.5,
            "episode_steps": 12,
            "n_candidates": 10,
        },
    },
    "ddpg with goals of intermediate difficulty": {
        "rule": {"kind": "ddpg"},
        "replay": {**HINDSIGHT, "selection": {"kind": "trajectory", "refit_every": 20}},
        "goals": {
            "kind": "intermediate_difficulty",
            "prediction": {"hidden_size": 8, "every": 3, "n_episodes": 10},
            "n_candidates": 10,
        },
    },
    "dqn with novelty": {"rule": {"kind": "dqn"}, "intrinsic": {"kind": "rnd", "batch_size": 16}},
}
"""Settings of learners of many kinds."""


def environments_for(kind: str, n_envs: int = 2) -> VectorEnv:
    """Fresh environments that a kind of learner learns in."""
    if kind.endswith("hindsight"):
        return open_environments([BitFlippingEnv(n_bits=4) for _ in range(n_envs)])
    if "with goals" in kind and not kind.endswith("device"):
        return open_environments([PointUMaze2DEnv(max_episode_steps=12) for _ in range(n_envs)])
    if kind.endswith("device"):
        return open_environments("tensor:BitFlipping", n_envs=n_envs)
    name = "CartPole-v1" if kind.startswith("dqn") else "Pendulum-v1"
    return open_environments([gym.make(name, max_episode_steps=30) for _ in range(n_envs)])


def config_for(kind: str, **settings: Any) -> OffPolicyConfig:
    """Settings of a kind of learner, all of it small."""
    chosen = RULES[kind]
    return OffPolicyConfig(
        **{
            "seed": 0,
            "device": "cpu",
            "learning_starts": 20,
            "random_steps": 20,
            **chosen,
            "rule": {"network": SMALL, **chosen["rule"]},
            "replay": {"capacity": 150, "batch_size": 8, **chosen.get("replay", {})},
            **settings,
        }
    )


def learner_for(kind: str, **settings: Any) -> OffPolicy:
    """A learner of a kind in environments of its own, which are reset from a fixed seed."""
    env = environments_for(kind)
    learner = OffPolicy(env, config_for(kind, **settings))
    learner.begin(env.reset(seed=3), timesteps=0, target_timesteps=1000)
    return learner


def run(learner: OffPolicyLearner, rounds: int) -> None:
    """Collect and learn in turns."""
    for _ in range(rounds):
        learner.collect()
        learner.update()


def numbers_of(learner: OffPolicy) -> list[torch.Tensor]:
    """All tensors of a learner's state."""
    return tensors_of(learner.state_dict())


def tensors_of(tree: Any) -> list[torch.Tensor]:
    """All tensors of a tree with lists in it."""
    if isinstance(tree, Mapping):
        return [tensor for part in tree.values() for tensor in tensors_of(part)]
    if isinstance(tree, list | tuple):
        return [tensor for part in tree for tensor in tensors_of(part)]
    return [leaf.clone() for leaf in leaves(tree) if isinstance(leaf, torch.Tensor)]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    """Whether two lists of tensors are equal bit for bit."""
    return len(one) == len(other) and all(map(torch.equal, one, other))
