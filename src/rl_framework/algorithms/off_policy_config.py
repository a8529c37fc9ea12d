"""Settings of the off-policy learner: those of the learner itself, and those of each of its parts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rl_framework.algorithms.exploration.configs import as_exploration_config
from rl_framework.algorithms.exploration.exploration import ExplorationConfig
from rl_framework.algorithms.goal_selection.goal_configs import GoalSelectionConfig, as_goal_config
from rl_framework.algorithms.intrinsic_rewards import IntrinsicRewardConfig, as_intrinsic_config
from rl_framework.algorithms.replay_config import ReplayConfig
from rl_framework.algorithms.updates.base import RuleConfig
from rl_framework.algorithms.updates.rule_configs import as_rule_config
from rl_framework.errors import InvalidInputError

COUNTS = ("optimize_every", "updates", "steps_per_collect", "updates_per_graph")
COUNTS_FROM_0 = ("learning_starts", "random_steps")


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerConfig:
    """Settings of a learner whose parts are given.

    Attributes:
        gamma: Discount factor, or several that are learned about, of which the last one is acted on.
        learning_starts: Transitions that are stored before anything is learned from them.
        random_steps: Environment steps with actions at random, before the policy acts.
        optimize_every: Environment steps, over all environments, for each time that something is learned.
        updates: Gradient steps of each such time.
        steps_per_collect: Steps of all environments before what is due is learned in one go.
        updates_per_graph: On CUDA, gradient steps that one CUDA graph holds; 0 for none, without graphs. A multiple of
            the rule's period, or a divisor of it.
        device: Where it learns: `cpu`, `cuda`, `cuda:<number>`, or `auto` for CUDA where there is one.
        seed: From which initial weights and samples are derived; None for one from the operating system.
    """

    gamma: float | Sequence[float] = 0.99
    learning_starts: int = 1000
    random_steps: int = 1000
    optimize_every: int = 1
    updates: int = 1
    steps_per_collect: int = 1
    updates_per_graph: int = 1
    device: str = "auto"
    seed: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "gamma", _as_gamma(self.gamma))
        for name in (*COUNTS, *COUNTS_FROM_0):
            least = 0 if name in (*COUNTS_FROM_0, "updates_per_graph") else 1
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise InvalidInputError(f"{name} must be a whole number from {least}, got {value!r}.")
        if self.seed is not None and (type(self.seed) is not int or self.seed < 0):
            raise InvalidInputError(f"seed must be a whole number from 0, got {self.seed!r}.")

    @property
    def gammas(self) -> tuple[float, ...]:
        """All discount factors."""
        return self.gamma if isinstance(self.gamma, tuple) else (float(self.gamma),)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True, slots=True)
class OffPolicyConfig(LearnerConfig):
    """Settings of `OffPolicy`. Those of parts are records, names of kinds, or JSON objects with a `kind`.

    Attributes:
        rule: What is learned: `ddpg`, `td3`, `sac`, `dqn`; for recordings `td3_bc`, `conservative_sac`,
            `batch_constrained`.
        replay: What is kept, and what of it is learned from: a `ReplayConfig` or its fields.
        exploration: How actions are tried that the policy would not take; None for the rule's usual way.
        goals: Which goals are pursued in place of those that the environments ask for; None for these.
        intrinsic: What is paid for novelty, beside what the environments pay; None for nothing.
    """

    rule: RuleConfig | str | Mapping[str, Any] = "sac"
    replay: ReplayConfig | Mapping[str, Any] = field(default_factory=ReplayConfig)
    exploration: ExplorationConfig | str | Mapping[str, Any] | None = None
    goals: GoalSelectionConfig | str | Mapping[str, Any] | None = None
    intrinsic: IntrinsicRewardConfig | str | Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        LearnerConfig.__post_init__(self)
        object.__setattr__(self, "rule", as_rule_config(self.rule))
        object.__setattr__(self, "replay", ReplayConfig.of(self.replay))
        if self.exploration is not None:
            object.__setattr__(self, "exploration", as_exploration_config(self.exploration))
        if self.goals is not None:
            object.__setattr__(self, "goals", as_goal_config(self.goals))
        if self.intrinsic is not None:
            object.__setattr__(self, "intrinsic", as_intrinsic_config(self.intrinsic))
        self.rule.check_with(self.gammas, self.replay.n_step)  # type: ignore[union-attr]  # they are records by now


def _as_gamma(value: Any) -> float | tuple[float, ...]:
    """A discount factor, or several as a tuple."""
    is_several = isinstance(value, Sequence) and not isinstance(value, str)
    factors = tuple(value) if is_several else (value,)
    for factor in factors:
        is_number = isinstance(factor, int | float) and not isinstance(factor, bool) and math.isfinite(factor)
        if not is_number or not 0.0 <= factor <= 1.0:
            raise InvalidInputError(f"gamma must lie in [0, 1], or be several such numbers; got {value!r}.")
    if not factors:
        raise InvalidInputError("gamma must be a number, or several; got none.")
    return tuple(float(factor) for factor in factors) if is_several else float(value)
