"""How an update rule acts: by itself, as the policy that is evaluated, and in training with exploration."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch

from rl_framework.algorithms.updates.base import UpdateRule
from rl_framework.core.policy import BoolArray, PolicyOutput
from rl_framework.core.trees import Tree
from rl_framework.envs.vector_env import EnvSpec
from rl_framework.nn.tensors import to_arrays, to_tensors
from rl_framework.nn.unit_actions import UnitActions


class RulePolicy:
    """Acts as an update rule does when it does not explore; a `Policy`.

    What a stochastic rule draws comes from torch's global generator, which an evaluation seeds.

    Args:
        rule: What acts, set up.
        spec: Of the environments that it learns in.
        device: Where its networks are.

    Attributes:
        observation_space: Space of the environment's observations.
        action_space: Space of the environment's actions.
        rule: What acts.
        device: Where its networks are.
        scale: Turns its actions into those of the environment.
    """

    def __init__(self, rule: UpdateRule, spec: EnvSpec, device: torch.device) -> None:
        self.rule = rule
        self.observation_space: gym.Space[Any] = spec.observation_space
        self.action_space: gym.Space[Any] = spec.action_space
        self.device = device
        self.scale = UnitActions(spec.action_space).to(device)

    @torch.no_grad()
    def act(
        self,
        observations: Tree,
        state: Tree = None,  # noqa: ARG002  (the protocol's; these policies have no memory)
        *,
        episode_starts: BoolArray | None = None,  # noqa: ARG002  (likewise)
        action_masks: BoolArray | None = None,  # noqa: ARG002  (refused where the learner is made)
        deterministic: bool = False,
    ) -> PolicyOutput:
        """Choose one action per observation; see `rl_framework.core.policy.Policy.act`."""
        chosen = self.rule.act(to_tensors(observations, self.device), deterministic=deterministic)
        return PolicyOutput(to_arrays(self.scale.to_environment(chosen)), None)
