"""How update rules make their networks and optimisers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from rl_framework.algorithms.flat_optimizer import AdamSettings, FlatAdam
from rl_framework.algorithms.updates.base import RuleConfig
from rl_framework.core.seeding import isolated_randomness
from rl_framework.nn.flat_parameters import flatten_parameters

HIGHEST_SEED = 2**31 - 1


@contextmanager
def initial_weights(generator: torch.Generator) -> Iterator[None]:
    """A block in which networks draw their weights by a generator, whatever the process's own generators are."""
    seed = torch.randint(HIGHEST_SEED, (), generator=generator, device=generator.device)
    with isolated_randomness(int(seed)):
        yield


def make_optimizer(module: nn.Module, config: RuleConfig, learning_rate: float, weight_decay: float = 0.0) -> FlatAdam:
    """Adam over all parameters of a network that is where it will stay."""
    settings = AdamSettings(
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        max_gradient=config.gradient_value_clip,
        max_gradient_norm=config.gradient_norm_clip,
    )
    return FlatAdam(flatten_parameters(module), settings)
