"""A policy of Stable-Baselines3 that belongs to no model, as a `Policy` of ours."""

from __future__ import annotations

from typing import cast

import gymnasium as gym
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy

from rl_framework.agent.imitation.imitation.rows import LearnerPlan
from rl_framework.agent.reinforcement.stable_baselines.onnx_export import exported_network
from rl_framework.agent.reinforcement.stable_baselines.policy import StableBaselinesPolicy
from rl_framework.export.onnx import OnnxNetwork


class BareModel:
    """As much of a model as acting and exporting ask for, around a policy alone.

    Attributes:
        policy: The policy.
    """

    def __init__(self, policy: BasePolicy) -> None:
        self.policy = policy

    @property
    def device(self) -> torch.device:
        """Where the policy's tensors are."""
        return self.policy.device

    @property
    def action_space(self) -> gym.Space:  # type: ignore[type-arg]  # as the library declares it
        """What the policy acts in."""
        return self.policy.action_space

    def get_vec_normalize_env(self) -> None:
        """There is no normalisation."""


def bare_policy(policy: BasePolicy, plan: LearnerPlan) -> StableBaselinesPolicy:
    """What acts for a policy without a model."""
    return StableBaselinesPolicy(_as_model(policy), plan.translation, plan.observation_space, plan.action_space)


def bare_network(policy: BasePolicy, plan: LearnerPlan) -> OnnxNetwork:
    """The deterministic actions of a policy without a model, as a network to export."""
    return exported_network(_as_model(policy), plan.translation, bare_policy(policy, plan))


def _as_model(policy: BasePolicy) -> BaseAlgorithm:
    return cast(BaseAlgorithm, BareModel(policy))
