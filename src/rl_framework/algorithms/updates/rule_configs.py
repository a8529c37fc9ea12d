"""The update rules of this library by name, and their settings from JSON."""

from __future__ import annotations

from typing import Any

from rl_framework.algorithms.part_configs import as_part_config
from rl_framework.algorithms.updates.base import RuleConfig
from rl_framework.algorithms.updates.batch_constrained import BatchConstrainedConfig
from rl_framework.algorithms.updates.conservative_sac import ConservativeSACConfig
from rl_framework.algorithms.updates.ddpg import DDPGConfig
from rl_framework.algorithms.updates.dqn import DQNConfig
from rl_framework.algorithms.updates.sac import SACConfig
from rl_framework.algorithms.updates.td3 import TD3Config
from rl_framework.algorithms.updates.td3_bc import TD3BCConfig

RULES: dict[str, type[RuleConfig]] = {
    "ddpg": DDPGConfig,
    "td3": TD3Config,
    "sac": SACConfig,
    "dqn": DQNConfig,
    "td3_bc": TD3BCConfig,
    "conservative_sac": ConservativeSACConfig,
    "batch_constrained": BatchConstrainedConfig,
}


def as_rule_config(value: Any) -> RuleConfig:
    """Settings of an update rule from a record, the name of a rule, or the JSON form of a record.

    Raises:
        UnknownOptionError: There is no such rule, or no such setting of it.
        InvalidInputError: It is none of the three, or a setting is out of range.
    """
    return as_part_config(value, RuleConfig, RULES, what="rule")  # type: ignore[type-abstract]  # it is but a bound
