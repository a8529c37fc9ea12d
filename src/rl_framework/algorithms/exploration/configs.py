"""The kinds of exploration that this library has."""

from __future__ import annotations

from typing import Any

from rl_framework.algorithms.exploration.action_noise import (
    GaussianNoiseConfig,
    OrnsteinUhlenbeckNoiseConfig,
    PolicyRandomnessConfig,
)
from rl_framework.algorithms.exploration.epsilon_greedy import EpsilonGreedyConfig
from rl_framework.algorithms.exploration.exploration import ExplorationConfig
from rl_framework.algorithms.part_configs import as_part_config

EXPLORATIONS: dict[str, type[ExplorationConfig]] = {
    "policy": PolicyRandomnessConfig,
    "gaussian": GaussianNoiseConfig,
    "ornstein_uhlenbeck": OrnsteinUhlenbeckNoiseConfig,
    "epsilon_greedy": EpsilonGreedyConfig,
}


def as_exploration_config(value: Any) -> ExplorationConfig:
    """Settings of exploration from a record, the name of a kind, or the JSON form of a record.

    Raises:
        UnknownOptionError: There is no such kind, or no such setting of it.
        InvalidInputError: It is none of the three, or a setting is out of range.
    """
    return as_part_config(value, ExplorationConfig, EXPLORATIONS, what="exploration")
