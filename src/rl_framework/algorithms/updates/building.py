"""How update rules make their optimisers."""

from __future__ import annotations

from torch import nn

from rl_framework.algorithms.flat_optimizer import AdamSettings, FlatAdam
from rl_framework.algorithms.updates.base import RuleConfig
from rl_framework.nn.flat_parameters import flatten_parameters


def make_optimizer(module: nn.Module, config: RuleConfig, learning_rate: float, weight_decay: float = 0.0) -> FlatAdam:
    """Adam over all parameters of a network that is where it will stay."""
    settings = AdamSettings(
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        max_gradient=config.gradient_value_clip,
        max_gradient_norm=config.gradient_norm_clip,
    )
    return FlatAdam(flatten_parameters(module), settings)
