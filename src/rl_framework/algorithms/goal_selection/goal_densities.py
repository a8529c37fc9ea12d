"""How densely goals lie among those that were achieved: by kernels, by novelty to a network, or by a flow."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rl_framework.algorithms.goal_selection.goal_memory import GoalMemory
from rl_framework.algorithms.part_configs import PartConfig, as_part_config
from rl_framework.algorithms.parts import Workshop
from rl_framework.algorithms.setting_ranges import check_count, check_number
from rl_framework.core.goals import ACHIEVED_GOAL
from rl_framework.errors import InvalidInputError, UnknownOptionError
from rl_framework.functional.kernel_density import KERNELS, KernelDensity, Standardization
from rl_framework.nn.random_network_distance import RandomNetworkDistance
from rl_framework.nn.real_nvp import RealNVP


class GoalDensity:
    """Log-densities of goals, up to a constant; a subclass overrides what it needs."""

    _memory: GoalMemory
    _generator: torch.Generator
    _device: torch.device

    def set_up(self, memory: GoalMemory, workshop: Workshop) -> None:
        """Get to know where achieved goals are; what is learned stays."""
        self._memory, self._generator, self._device = memory, workshop.generator, workshop.device

    def refresh(self) -> None:
        """Get ready for questions."""

    def learn(self, step: int) -> None:
        """Learn, once per optimisation step of the learner, which are counted from 1."""

    def log_density(self, goals: Tensor) -> Tensor:
        """Logarithms, up to a constant. `[N, G]` to `[N]`"""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Everything that its next call depends on."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GoalDensityConfig(PartConfig):
    """Base of the settings of all kinds of density."""

    def make(self) -> GoalDensity:
        """The density that is meant."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelGoalDensityConfig(GoalDensityConfig):
    """Settings of a kernel density.

    Attributes:
        n_points: Number of achieved goals that are drawn for it, anew for each question.
        bandwidth: Width of the kernels, in standard deviations of the achieved goals.
        kernel: "gaussian" or "tophat".
    """

    kind: Any = "kernel"
    n_points: int = 10_000
    bandwidth: float = 0.1
    kernel: Literal["gaussian", "tophat"] = "gaussian"

    def __post_init__(self) -> None:
        PartConfig.__post_init__(self)
        check_count("n_points of a density", self.n_points)
        check_number("bandwidth of a density", self.bandwidth, low=1e-6)
        if self.kernel not in KERNELS:
            raise UnknownOptionError.of("kernel of a density", str(self.kernel), KERNELS)

    def make(self) -> KernelGoalDensity:
        """The density that is meant."""
        return KernelGoalDensity(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class NoveltyGoalDensityConfig(GoalDensityConfig):
    """Settings of novelty to a network: the worse it is predicted what a random network makes of a goal, the rarer.

    Attributes:
        batch_size: Achieved goals per gradient step.
        every: Optimisation steps of the learner per gradient step.
        learning_rate: Step size of stochastic gradient descent.
        weight_decay: Weight of half the squared parameters in the loss.
        hidden_size: Units of the two networks' hidden layer, and of their outputs.
    """

    kind: Any = "novelty"
    batch_size: int = 256
    every: int = 1
    learning_rate: float = 0.1
    weight_decay: float = 1e-5
    hidden_size: int = 256

    def __post_init__(self) -> None:
        PartConfig.__post_init__(self)
        for name in ("batch_size", "every", "hidden_size"):
            check_count(f"{name} of a density", getattr(self, name))
        for name in ("learning_rate", "weight_decay"):
            check_number(f"{name} of a density", getattr(self, name), low=0.0)

    def make(self) -> NoveltyGoalDensity:
        """The density that is meant."""
        return NoveltyGoalDensity(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowGoalDensityConfig(GoalDensityConfig):
    """Settings of a normalising flow.

    Attributes:
        batch_size: Achieved goals per gradient step.
        every: Optimisation steps of the learner per gradient step.
        learning_rate: Step size of Adam.
        n_pairs: Pairs of coupling layers.
        hidden_size: Units of each of the two hidden layers of a coupling's networks.
    """

    kind: Any = "flow"
    batch_size: int = 1000
    every: int = 2
    learning_rate: float = 1e-3
    n_pairs: int = 3
    hidden_size: int = 256

    def __post_init__(self) -> None:
        PartConfig.__post_init__(self)
        for name in ("batch_size", "every", "n_pairs", "hidden_size"):
            check_count(f"{name} of a density", getattr(self, name))
        check_number("learning_rate of a density", self.learning_rate, low=0.0)

    def make(self) -> FlowGoalDensity:
        """The density that is meant."""
        return FlowGoalDensity(self)


DENSITIES: dict[str, type[GoalDensityConfig]] = {
    "kernel": KernelGoalDensityConfig,
    "novelty": NoveltyGoalDensityConfig,
    "flow": FlowGoalDensityConfig,
}


def as_density_config(value: Any) -> GoalDensityConfig:
    """Settings of a density from a record, the name of a kind, or the JSON form of a record.

    Raises:
        UnknownOptionError: There is no such kind, or no such setting of it.
        InvalidInputError: It is none of the three, or a setting is out of range.
    """
    return as_part_config(value, GoalDensityConfig, DENSITIES, what="density of goals")


class KernelGoalDensity(GoalDensity):
    """A kernel density of achieved goals that are drawn anew for each question.

    Args:
        config: Settings.
    """

    def __init__(self, config: KernelGoalDensityConfig | None = None) -> None:
        self.config = config or KernelGoalDensityConfig()
        self._fitted: KernelDensity | None = None

    def refresh(self) -> None:
        """Draw achieved goals."""
        points = self._memory.achieved(self.config.n_points, self._generator)
        self._fitted = KernelDensity.fit(points, bandwidth=self.config.bandwidth, kernel=self.config.kernel)

    def log_density(self, goals: Tensor) -> Tensor:
        """Of standardised goals. `[N, G]` to `[N]`"""
        if self._fitted is None:
            raise InvalidInputError("The density has seen no goals yet; call refresh() before log_density(goals).")
        return self._fitted.log_density(goals)


class _LearnedGoalDensity(GoalDensity):
    """A density that a network learns from standardised goals.

    Args:
        batch_size: Achieved goals per gradient step.
        every: Optimisation steps of the learner per gradient step.
    """

    def __init__(self, batch_size: int, every: int) -> None:
        self._batch_size, self._every = batch_size, every
        self._network: nn.Module | None = None
        self._optimizer: torch.optim.Optimizer | None = None
        self._standardization: Standardization | None = None

    def set_up(self, memory: GoalMemory, workshop: Workshop) -> None:
        """Make the network, if there is none yet."""
        super().set_up(memory, workshop)
        if self._network is None:
            space = workshop.spec.observation_space[ACHIEVED_GOAL]  # type: ignore[index]  # it is a Dict
            with workshop.initial_weights():
                self._network = self.make_network(int(torch.Size(space.shape).numel())).to(workshop.device)
            self._optimizer = self.make_optimizer(self._network)

    def refresh(self) -> None:
        """Get units, where nothing was learned yet."""
        if self._standardization is None:
            self._standardization = Standardization.of(self._memory.achieved(self._batch_size, self._generator))

    def learn(self, step: int) -> None:
        """Take a gradient step towards the goals achieved."""
        if step % self._every != 0 or len(self._memory) == 0 or self._network is None or self._optimizer is None:
            return
        goals = self._memory.achieved(self._batch_size, self._generator)
        self._standardization = Standardization.of(goals)
        self._optimizer.zero_grad()
        self.loss(self._network, self._standardization.apply(goals)).backward()  # type: ignore[no-untyped-call]  # torch's
        self._optimizer.step()

    @torch.no_grad()
    def log_density(self, goals: Tensor) -> Tensor:
        """Of standardised goals. `[N, G]` to `[N]`"""
        if self._network is None or self._standardization is None:
            raise InvalidInputError("The density has seen no goals yet; call refresh() before log_density(goals).")
        return self.evaluate(self._network, self._standardization.apply(goals))

    def make_network(self, width: int) -> nn.Module:
        """What learns, with initial weights from torch's global generator."""
        raise NotImplementedError

    def make_optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        """What takes the gradient steps."""
        raise NotImplementedError

    def evaluate(self, network: nn.Module, goals: Tensor) -> Tensor:
        """Log-densities of standardised goals. `[N, G]` to `[N]`"""
        raise NotImplementedError

    def loss(self, network: nn.Module, goals: Tensor) -> Tensor:
        """What is minimised; `[]`."""
        return -self.evaluate(network, goals).mean()

    def state_dict(self) -> dict[str, Any]:
        """Copies of weights, the optimiser's state, and units."""
        units = self._standardization
        return {
            "network": None if self._network is None else deepcopy(dict(self._network.state_dict())),
            "optimizer": None if self._optimizer is None else deepcopy(self._optimizer.state_dict()),
            "units": None if units is None else {"mean": units.mean, "scale": units.scale},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        if self._network is None or self._optimizer is None:
            raise InvalidInputError("Set the density up, as a part of a learner, before its state is loaded.")
        self._network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(deepcopy(state["optimizer"]))
        units = state["units"]
        self._standardization = (
            None if units is None else Standardization(units["mean"].to(self._device), units["scale"].to(self._device))
        )


class NoveltyGoalDensity(_LearnedGoalDensity):
    """Minus the error with which a network predicts what a random network makes of a goal.

    Args:
        config: Settings.
    """

    def __init__(self, config: NoveltyGoalDensityConfig | None = None) -> None:
        self.config = config or NoveltyGoalDensityConfig()
        super().__init__(self.config.batch_size, self.config.every)

    def make_network(self, width: int) -> nn.Module:
        """A random network, and one that learns to predict it."""
        return RandomNetworkDistance.of_numbers(width, (self.config.hidden_size,), self.config.hidden_size)

    def make_optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        """Stochastic gradient descent."""
        learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
        return torch.optim.SGD(learned, lr=self.config.learning_rate, weight_decay=self.config.weight_decay)

    def evaluate(self, network: nn.Module, goals: Tensor) -> Tensor:
        """Minus mean squared errors. `[N, G]` to `[N]`"""
        distance: Tensor = network(goals)
        return -distance


class FlowGoalDensity(_LearnedGoalDensity):
    """The density of a normalising flow.

    Args:
        config: Settings.
    """

    def __init__(self, config: FlowGoalDensityConfig | None = None) -> None:
        self.config = config or FlowGoalDensityConfig()
        super().__init__(self.config.batch_size, self.config.every)

    def make_network(self, width: int) -> nn.Module:
        """The flow."""
        return RealNVP(width, n_pairs=self.config.n_pairs, hidden_size=self.config.hidden_size)

    def make_optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(network.parameters(), lr=self.config.learning_rate)

    def evaluate(self, network: nn.Module, goals: Tensor) -> Tensor:
        """Log-densities. `[N, G]` to `[N]`"""
        log_density: Tensor = network(goals)
        return log_density
