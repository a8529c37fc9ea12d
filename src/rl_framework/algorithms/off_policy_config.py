"""Settings of the off-policy learner: those of the learner itself, and those of each of its parts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rl_framework.algorithms.exploration.configs import as_exploration_config
from rl_framework.algorithms.exploration.exploration import ExplorationConfig
from rl_framework.algorithms.goal_selection.goal_configs import GoalSelectionConfig, as_goal_config
from rl_framework.algorithms.intrinsic_rewards import IntrinsicRewardConfig, as_intrinsic_config
from rl_framework.algorithms.part_configs import PartConfig, as_part_config, as_record
from rl_framework.algorithms.parts import Part
from rl_framework.algorithms.replay_config import ReplayConfig
from rl_framework.algorithms.setting_ranges import check_count, check_number
from rl_framework.algorithms.updates.base import RuleConfig
from rl_framework.algorithms.updates.rule_configs import as_rule_config
from rl_framework.errors import InvalidInputError

COUNTS = ("optimize_every", "updates", "steps_per_collect")
COUNTS_FROM_0 = ("learning_starts", "random_steps", "updates_per_graph")


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
        updates_per_graph: On CUDA, gradient steps that one CUDA graph holds; 0 for none, without graphs. There are
            fewest graphs where it is a multiple of the rule's `target_every` and `policy_every`, or a divisor of them.
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
        for name in COUNTS:
            check_count(name, getattr(self, name))
        for name in COUNTS_FROM_0:
            check_count(name, getattr(self, name), least=0)
        if self.seed is not None:
            check_count("seed", self.seed, least=0)

    @property
    def gammas(self) -> tuple[float, ...]:
        """All discount factors."""
        return self.gamma if isinstance(self.gamma, tuple) else (float(self.gamma),)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExtraPartConfig(PartConfig, ABC):
    """Base of the settings of a part that users bring along, beside those that every off-policy learner has."""

    @abstractmethod
    def make(self) -> Part:
        """The part that is meant."""


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
        extra_parts: Parts of one's own by name, which stand behind all others: an `ExtraPartConfig` each, or its JSON
            form, whose `kind` is the class.
    """

    rule: RuleConfig | str | Mapping[str, Any] = "sac"
    replay: ReplayConfig | Mapping[str, Any] = field(default_factory=ReplayConfig)
    exploration: ExplorationConfig | str | Mapping[str, Any] | None = None
    goals: GoalSelectionConfig | str | Mapping[str, Any] | None = None
    intrinsic: IntrinsicRewardConfig | str | Mapping[str, Any] | None = None
    extra_parts: Mapping[str, ExtraPartConfig | Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        LearnerConfig.__post_init__(self)
        object.__setattr__(self, "rule", as_rule_config(self.rule))
        object.__setattr__(self, "replay", _as_replay(self.replay, has_own_goals=self.goals is not None))
        object.__setattr__(self, "extra_parts", _as_extra_parts(self.extra_parts))
        if self.exploration is not None:
            object.__setattr__(self, "exploration", as_exploration_config(self.exploration))
        if self.goals is not None:
            object.__setattr__(self, "goals", as_goal_config(self.goals))
        if self.intrinsic is not None:
            object.__setattr__(self, "intrinsic", as_intrinsic_config(self.intrinsic))
        self.rule.check_with(self.gammas, self.replay.n_step)  # type: ignore[union-attr]  # they are records by now
        _check_goals(self.goals, self.replay)  # type: ignore[arg-type]  # likewise


def _as_replay(value: Any, *, has_own_goals: bool) -> ReplayConfig:
    """Settings of the replay; the environments' ends are not those of goals that the learner sets itself."""
    replay = as_record(value, ReplayConfig, what="replay")
    return replace(replay, endings="never") if has_own_goals and replay.endings is None else replay


def _check_goals(goals: GoalSelectionConfig | None, replay: ReplayConfig) -> None:
    """Refuse sums of rewards that were paid for different goals."""
    if goals is not None and goals.overshoot > 0.0 and replay.n_step > 1 and replay.relabel is None:
        raise InvalidInputError(
            f"overshoot={goals.overshoot} moves goals on within an episode, and n_step={replay.n_step} would sum up "
            "rewards for different ones; give replay.relabel ('none' relabels nothing and pays for one goal)."
        )


def _as_extra_parts(value: Any) -> dict[str, ExtraPartConfig]:
    if not isinstance(value, Mapping):
        raise InvalidInputError(f"extra_parts must be a mapping from names to settings of parts, got {value!r}.")
    taken = sorted({"replay", "goals", "exploration", "intrinsic", "rule"} & set(value))
    if taken:
        raise InvalidInputError(f"extra_parts need names of their own; {', '.join(taken)} are those of other parts.")
    base = ExtraPartConfig
    return {name: as_part_config(part, base, {}, what=f"extra part {name!r}") for name, part in value.items()}  # type: ignore[type-abstract]  # it is but a bound


def _as_gamma(value: Any) -> float | tuple[float, ...]:
    """A discount factor, or several as a tuple."""
    is_several = isinstance(value, Sequence) and not isinstance(value, str)
    factors = tuple(value) if is_several else (value,)
    for factor in factors:
        check_number("gamma, a discount factor or several,", factor, low=0.0, high=1.0)
    if not factors:
        raise InvalidInputError("gamma must be a number, or several; got none.")
    return tuple(float(factor) for factor in factors) if is_several else float(value)
