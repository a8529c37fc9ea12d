"""Settings of the replay: how much it keeps, and what of it is learned from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rl_framework.algorithms.part_configs import PartConfig, as_part_config
from rl_framework.algorithms.setting_ranges import check_count, check_number
from rl_framework.data.replay_buffer import ReplayBuffer
from rl_framework.data.sampling.goal_mixture import GoalMixture
from rl_framework.data.sampling.prioritized import PrioritizedSelection
from rl_framework.data.sampling.selection import Selection
from rl_framework.data.sampling.trajectory_priorities import TrajectorySelection
from rl_framework.errors import InvalidInputError, UnknownOptionError

ENDINGS = ("environment", "never", "first_visit")


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectionConfig(PartConfig, ABC):
    """Base of the settings of how transitions are chosen."""

    @abstractmethod
    def make(self, buffer: ReplayBuffer) -> Selection:
        """What chooses among the transitions of a replay."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PrioritizedConfig(SelectionConfig):
    """Transitions are chosen in proportion to a power of their errors.

    Source: Schaul et al., Prioritized Experience Replay (2016), https://arxiv.org/abs/1511.05952.

    Attributes:
        alpha: That power: 0 for all alike.
        beta: The share of the bias that importance weights take away at first; in the end, they take away all of it.
        beta_steps: Minibatches until then.
        epsilon: Is added to each error, so that none is never chosen again; above 0.
    """

    kind: Any = "prioritized"
    alpha: float = 0.6
    beta: float = 0.4
    beta_steps: int = 100_000
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        PartConfig.__post_init__(self)
        for name in ("alpha", "beta"):
            check_number(f"{name} of priorities", getattr(self, name), low=0.0, high=1.0)
        check_number("epsilon of priorities", self.epsilon, low=1e-12)
        check_count("beta_steps of priorities", self.beta_steps)

    def make(self, buffer: ReplayBuffer) -> PrioritizedSelection:
        """What chooses among the transitions of a replay."""
        return PrioritizedSelection(
            buffer, alpha=self.alpha, beta=self.beta, beta_steps=self.beta_steps, epsilon=self.epsilon
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrajectoryPriorityConfig(SelectionConfig):
    """Episodes whose achieved goals are rare are chosen more often; their steps all alike.

    Source: Zhao, Sun and Tresp, Maximum Entropy-Regularized Multi-Goal Reinforcement Learning (2019),
    https://arxiv.org/abs/1905.08786.

    Attributes:
        temperature: The larger, the more alike; ranks are taken to the power of `1 / (temperature + 0.01)`.
        refit_every: Environment steps between fits of the density.
        n_components: Gaussians of the density's mixture.
    """

    kind: Any = "trajectory"
    temperature: float = 1.0
    refit_every: int = 10_000
    n_components: int = 3

    def __post_init__(self) -> None:
        PartConfig.__post_init__(self)
        check_number("temperature of a selection", self.temperature, low=0.0)
        check_count("refit_every of a selection", self.refit_every)
        check_count("n_components of a selection", self.n_components)

    def make(self, buffer: ReplayBuffer) -> TrajectorySelection:
        """What chooses among the transitions of a replay."""
        return TrajectorySelection(buffer, temperature=self.temperature)


SELECTIONS: dict[str, type[SelectionConfig]] = {
    "prioritized": PrioritizedConfig,
    "trajectory": TrajectoryPriorityConfig,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayConfig:
    """What is kept, and what of it a minibatch holds.

    Attributes:
        capacity: Transitions that are kept; the oldest make room.
        batch_size: Transitions per gradient step.
        n_step: Steps that one transition of a minibatch stands for.
        relabel: Which goals transitions are learned from with, such as `future_4`, `futureactual_2_2` or
            `rfaab_1_4_3_1_1`; None for those that were pursued.
        relabel_warm_up: Until so many steps are stored, all goals are achieved later in the same episode.
        shaping: Weight, from 0, of the change in distance to the goal, discounted, that is added to relabelled rewards.
        endings: What counts as an end of the task: what the `environment` says, `never`, or the `first_visit` of the
            goal; None for `never` where goals are learned about that environments did not ask for, by `relabel` or by
            `OffPolicyConfig.goals`, and for what the environment says otherwise.
        selection: How transitions are chosen: a `SelectionConfig`, its name, or its JSON form; None for all alike.
        folder: Where the transitions are kept in files instead of memory; None for memory.
        demonstrations: A data set of recorded episodes that minibatches take a share of their transitions from.
        demonstration_share: That share.
        is_saved: Whether transitions are saved with the learner, and loaded again. Without them, a resumed run is not
            that which was interrupted.
    """

    capacity: int = 1_000_000
    batch_size: int = 256
    n_step: int = 1
    relabel: str | None = None
    relabel_warm_up: int = 25_000
    shaping: float = 0.0
    endings: str | None = None
    selection: SelectionConfig | str | Mapping[str, Any] | None = None
    folder: str | None = None
    demonstrations: str | None = None
    demonstration_share: float = 0.25
    is_saved: bool = True

    def __post_init__(self) -> None:
        for name in ("capacity", "batch_size", "n_step"):
            check_count(f"{name} of the replay", getattr(self, name))
        check_count("relabel_warm_up of the replay", self.relabel_warm_up, least=0)
        check_number("demonstration_share of the replay", self.demonstration_share, low=0.0, high=1.0)
        check_number("shaping of the replay", self.shaping, low=0.0)
        if self.endings is not None and self.endings not in ENDINGS:
            raise UnknownOptionError.of("ending", self.endings, ENDINGS)
        if self.relabel is not None:
            GoalMixture.parse(self.relabel)
        if self.shaping and self.relabel is None:
            raise InvalidInputError("shaping changes relabelled rewards; give relabel, such as 'future_4', as well.")
        if self.selection is not None:
            selection = as_part_config(
                self.selection,
                SelectionConfig,  # type: ignore[type-abstract]  # it is but a bound
                SELECTIONS,
                what="selection",
            )
            object.__setattr__(self, "selection", selection)
