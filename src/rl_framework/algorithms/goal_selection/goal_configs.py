"""Settings of the selection of goals, of all kinds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rl_framework.algorithms.goal_selection.desired_goal_mixing import DesiredGoalMixing, DesiredGoalMixingConfig
from rl_framework.algorithms.goal_selection.entropy_gain import EntropyGainScore
from rl_framework.algorithms.goal_selection.goal_densities import (
    GoalDensityConfig,
    KernelGoalDensityConfig,
    as_density_config,
)
from rl_framework.algorithms.goal_selection.goal_selection import GoalSelection
from rl_framework.algorithms.goal_selection.scores import DensityScore, GoalScore, HardestScore, UniformScore
from rl_framework.algorithms.goal_selection.success_prediction import (
    IntermediateDifficultyScore,
    SuccessPredictionConfig,
)
from rl_framework.algorithms.part_configs import PartConfig, as_part_config, as_record
from rl_framework.algorithms.setting_ranges import check_count, check_number
from rl_framework.errors import InvalidInputError


@dataclass(frozen=True, kw_only=True, slots=True)
class GoalSelectionConfig(PartConfig):
    """What all kinds of selection share.

    Attributes:
        n_candidates: Achieved goals that are drawn for each environment, of which one is pursued.
        is_random: Whether the candidate is drawn in proportion to the weights instead of being the one with the
            greatest.
        episode_steps: Length of an episode; the cut-off is never below the value of 0.8 times as many steps.
        initial_cutoff: Least value of goals that are pursued at the start, in rewards of -1 per step.
        cutoff_thresholds: Shares of successes up to which the cut-off rises, and from which it falls.
        environment_share: Probability with which the environment's own goal is pursued, whatever else is said.
        go_explore: By how much random actions become likelier with each step of an episode at the goal.
        overshoot: Probability with which a goal that is reached is moved on in the direction of the last step.
        desired_bonus: Factor of the weights of candidates near goals that environments ask for; 1 for none.
        n_desired: Number of such goals that are drawn to tell so.
        allowed: Least and greatest numbers of goals; others are pursued if nothing else is within reach. None for any.
    """

    n_candidates: int = 100
    is_random: bool = False
    episode_steps: int = 50
    initial_cutoff: float = -3.0
    cutoff_thresholds: tuple[float, float] = (0.3, 0.7)
    environment_share: float = 0.0
    go_explore: float = 0.1
    overshoot: float = 0.0
    desired_bonus: float = 1.0
    n_desired: int = 1000
    allowed: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    def __post_init__(self) -> None:
        PartConfig.__post_init__(self)
        for name in ("n_candidates", "episode_steps", "n_desired"):
            check_count(f"{name} of a selection of goals", getattr(self, name))
        for name in ("environment_share", "go_explore", "overshoot"):
            check_number(f"{name} of a selection of goals", getattr(self, name), low=0.0, high=1.0)
        check_number("initial_cutoff of a selection of goals", self.initial_cutoff)
        check_number("desired_bonus of a selection of goals", self.desired_bonus, low=1.0)
        object.__setattr__(self, "cutoff_thresholds", _as_thresholds(self.cutoff_thresholds))
        if self.allowed is not None:
            object.__setattr__(self, "allowed", _as_bounds(self.allowed))

    def make(self) -> GoalSelection:
        """The part that is meant."""
        return GoalSelection(self)

    def make_score(self) -> GoalScore:
        """What weighs candidates."""
        raise NotImplementedError

    def make_mixing(self) -> DesiredGoalMixing | None:
        """What says how often environments' own goals are pursued, None if nothing does."""
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class MEGAConfig(GoalSelectionConfig):
    """Settings of MEGA: the goal that was achieved least densely, of those within reach.

    Attributes:
        density: Settings of the density, the name of its kind, or their JSON form.

    Source: Pitis et al., Maximum Entropy Gain Exploration for Long Horizon Multi-goal Reinforcement Learning, 2020
    (https://arxiv.org/abs/2007.02832).
    """

    kind: Any = "mega"
    density: GoalDensityConfig | str | Mapping[str, Any] = field(default_factory=KernelGoalDensityConfig)

    def __post_init__(self) -> None:
        GoalSelectionConfig.__post_init__(self)
        object.__setattr__(self, "density", as_density_config(self.density))

    def make_score(self) -> DensityScore:
        """What weighs candidates."""
        return DensityScore(as_density_config(self.density).make())


@dataclass(frozen=True, kw_only=True, slots=True)
class OMEGAConfig(MEGAConfig):
    """Settings of OMEGA: MEGA at first, and more and more the environments' own goals as they come within reach.

    Attributes:
        mixing: Settings of how that share is estimated, or their JSON form.
    """

    kind: Any = "omega"
    mixing: DesiredGoalMixingConfig | Mapping[str, Any] = field(default_factory=DesiredGoalMixingConfig)

    def __post_init__(self) -> None:
        MEGAConfig.__post_init__(self)
        object.__setattr__(self, "mixing", as_record(self.mixing, DesiredGoalMixingConfig, what="mixing"))

    def make_mixing(self) -> DesiredGoalMixing:
        """What says how often environments' own goals are pursued."""
        return DesiredGoalMixing(as_record(self.mixing, DesiredGoalMixingConfig, what="mixing"))


@dataclass(frozen=True, kw_only=True, slots=True)
class DiverseConfig(GoalSelectionConfig):
    """Settings of diverse goals: drawn with a power of their density among those achieved.

    Attributes:
        density: Settings of the density, the name of its kind, or their JSON form.
        power: The exponent: -1 makes all goals that were achieved about as likely.
    """

    kind: Any = "diverse"
    is_random: bool = True
    density: GoalDensityConfig | str | Mapping[str, Any] = field(default_factory=KernelGoalDensityConfig)
    power: float = -1.0

    def __post_init__(self) -> None:
        GoalSelectionConfig.__post_init__(self)
        check_number("power of diverse goals", self.power)
        object.__setattr__(self, "density", as_density_config(self.density))

    def make_score(self) -> DensityScore:
        """What weighs candidates."""
        return DensityScore(as_density_config(self.density).make(), self.power)


@dataclass(frozen=True, kw_only=True, slots=True)
class AchievedConfig(GoalSelectionConfig):
    """Settings of achieved goals: any that was achieved and is within reach, as often as it was achieved."""

    kind: Any = "achieved"
    is_random: bool = True

    def make_score(self) -> UniformScore:
        """What weighs candidates."""
        return UniformScore()


@dataclass(frozen=True, kw_only=True, slots=True)
class MinQConfig(GoalSelectionConfig):
    """Settings of the hardest goal of those within reach: the one with the lowest value."""

    kind: Any = "min_q"

    def make_score(self) -> HardestScore:
        """What weighs candidates."""
        return HardestScore()


@dataclass(frozen=True, kw_only=True, slots=True)
class IntermediateDifficultyConfig(GoalSelectionConfig):
    """Settings of goals of intermediate difficulty: reached with a probability near one half. There is no cut-off.

    Attributes:
        prediction: Settings of the prediction of success, or their JSON form.
    """

    kind: Any = "intermediate_difficulty"
    prediction: SuccessPredictionConfig | Mapping[str, Any] = field(default_factory=SuccessPredictionConfig)

    def __post_init__(self) -> None:
        GoalSelectionConfig.__post_init__(self)
        object.__setattr__(self, "prediction", as_record(self.prediction, SuccessPredictionConfig, what="prediction"))

    def make_score(self) -> IntermediateDifficultyScore:
        """What weighs candidates."""
        return IntermediateDifficultyScore(as_record(self.prediction, SuccessPredictionConfig, what="prediction"))


@dataclass(frozen=True, kw_only=True, slots=True)
class EntropyGainConfig(GoalSelectionConfig):
    """Settings of the goal whose pursuit is expected to let the entropy of achieved goals grow most.

    Attributes:
        n_points: Transitions that densities are fitted to, drawn anew for each choice.
        bandwidth: Width of the kernels, in standard deviations.
    """

    kind: Any = "entropy_gain"
    n_points: int = 10_000
    bandwidth: float = 0.1

    def __post_init__(self) -> None:
        GoalSelectionConfig.__post_init__(self)
        check_count("n_points of the entropy gain", self.n_points)
        check_number("bandwidth of the entropy gain", self.bandwidth, low=1e-6)

    def make_score(self) -> EntropyGainScore:
        """What weighs candidates."""
        return EntropyGainScore(self.n_points, self.bandwidth)


GOAL_SELECTIONS: dict[str, type[GoalSelectionConfig]] = {
    "mega": MEGAConfig,
    "omega": OMEGAConfig,
    "diverse": DiverseConfig,
    "achieved": AchievedConfig,
    "min_q": MinQConfig,
    "intermediate_difficulty": IntermediateDifficultyConfig,
    "entropy_gain": EntropyGainConfig,
}


def as_goal_config(value: Any) -> GoalSelectionConfig:
    """Settings of the selection of goals from a record, the name of a kind, or the JSON form of a record.

    Raises:
        UnknownOptionError: There is no such kind, or no such setting of it.
        InvalidInputError: It is none of the three, or a setting is out of range.
    """
    return as_part_config(value, GoalSelectionConfig, GOAL_SELECTIONS, what="selection of goals")


def _as_thresholds(value: Any) -> tuple[float, float]:
    try:
        few, many = (float(share) for share in value)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"cutoff_thresholds must be two shares such as (0.3, 0.7), got {value!r}.") from error
    if not 0.0 <= few < many <= 1.0:
        raise InvalidInputError(f"cutoff_thresholds must be two shares, the lower one first, got {value!r}.")
    return few, many


def _as_bounds(value: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    try:
        low, high = (tuple(float(number) for number in bound) for bound in value)
        is_box = len(low) == len(high) and all(a <= b for a, b in zip(low, high, strict=True))
    except (TypeError, ValueError):
        is_box = False
        low = high = ()
    if not is_box:
        raise InvalidInputError(
            f"allowed must be the least and the greatest numbers of goals, such as ((0, 0), (1, 1)), got {value!r}."
        )
    return low, high
