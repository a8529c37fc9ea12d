"""The deterministic policy of an off-policy update rule, from raw observations to actions, to be exported."""

from __future__ import annotations

from torch import Tensor, nn

from rl_framework.agent.network_export import ACTIONS, OBSERVATION, as_float32, example_observations, named_leaves
from rl_framework.algorithms.off_policy_acting import RulePolicy
from rl_framework.core.spaces import map_space
from rl_framework.export.onnx import OnnxNetwork


def exported_rule(policy: RulePolicy) -> OnnxNetwork:
    """A policy's deterministic actions as a network to export; names are those of `exported_network`.

    Args:
        policy: What acts.
    """
    observations = example_observations(policy.observation_space)
    right = policy.act(observations, deterministic=True)
    return OnnxNetwork(
        module=DeterministicRule(policy),
        inputs=named_leaves(observations, OBSERVATION, is_prefix=False),
        outputs=named_leaves(right.actions, ACTIONS, is_prefix=True),
    )


class DeterministicRule(nn.Module):
    """From the leaves of observations to actions.

    Args:
        policy: What acts.
    """

    def __init__(self, policy: RulePolicy) -> None:
        super().__init__()
        self.network = policy.rule.policy_network
        self.features = policy.rule.features
        self.scale = policy.scale
        self._rule = policy.rule
        self._space = policy.observation_space

    def forward(self, *entries: Tensor) -> tuple[Tensor, ...]:
        """Actions for the leaves of observations. `[B, ...]` each"""
        given = iter(entries)
        observations = map_space(lambda _: as_float32(next(given)), self._space)
        return (self.scale.to_environment(self._rule.act(observations, deterministic=True)),)
