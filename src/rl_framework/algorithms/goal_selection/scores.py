"""How candidates for goals are weighed against each other."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from rl_framework.algorithms.goal_selection.candidates import Candidates
from rl_framework.algorithms.goal_selection.goal_densities import GoalDensity
from rl_framework.algorithms.goal_selection.goal_memory import GoalMemory
from rl_framework.algorithms.parts import Experience, Workshop

LEAST_WEIGHT = 1e-8


class GoalScore:
    """Weighs candidates; a subclass overrides what it needs.

    Attributes:
        uses_cutoff: Whether candidates below the cut-off are out.
    """

    uses_cutoff: ClassVar[bool] = True

    def set_up(self, memory: GoalMemory, workshop: Workshop) -> None:
        """Get ready, once, and again when another part of the learner was replaced; what is learned stays."""

    def log_weights(self, candidates: Candidates) -> Tensor:
        """Logarithms of weights, up to a constant per environment; the greatest is the goal to pursue. `[E, N]`"""
        raise NotImplementedError

    def begin(self) -> None:
        """New episodes begin everywhere."""

    def watch(self, experience: Experience, reached: Tensor) -> None:
        """Take in one step of all environments.

        Args:
            experience: The step.
            reached: Whether the goal that is pursued was reached in the episode, in this step or before. `[B]`
        """

    def learn(self, step: int) -> None:
        """Learn, once per optimisation step of the learner, which are counted from 1."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that its next call depends on."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""


class UniformScore(GoalScore):
    """All goals weigh the same: those achieved before, as often as they were achieved."""

    def log_weights(self, candidates: Candidates) -> Tensor:
        """Zeros. `[E, N]`"""
        return torch.zeros_like(candidates.values)


class DensityScore(GoalScore):
    """A power of how densely goals lie among those achieved: with a negative one, rare goals weigh more.

    Args:
        density: Knows how densely.
        power: The exponent.

    Source: Pitis et al., Maximum Entropy Gain Exploration for Long Horizon Multi-goal Reinforcement Learning, 2020
    (https://arxiv.org/abs/2007.02832); sampling with a power of -1 is in the way of Pong et al., Skew-Fit, 2020
    (https://arxiv.org/abs/1903.03698).
    """

    def __init__(self, density: GoalDensity, power: float = -1.0) -> None:
        self._density = density
        self._power = power

    def set_up(self, memory: GoalMemory, workshop: Workshop) -> None:
        """Hand the density what it is fitted to."""
        self._density.set_up(memory, workshop)

    def log_weights(self, candidates: Candidates) -> Tensor:
        """Log-densities times the power. `[E, N]`"""
        self._density.refresh()
        return self._density.log_density(candidates.flat).reshape(candidates.values.shape) * self._power

    def learn(self, step: int) -> None:
        """Improve the density."""
        self._density.learn(step)

    def state_dict(self) -> dict[str, Any]:
        """That of the density."""
        return self._density.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._density.load_state_dict(state)


class HardestScore(GoalScore):
    """The lower the value, the greater the weight: its distance below 0, or below the greatest if that is above 0.

    Source: the baseline Min-Q of Pitis et al., 2020 (https://arxiv.org/abs/2007.02832); the idea is that of Hartikainen
    et al., Dynamical Distance Learning, 2020 (https://arxiv.org/abs/1907.08225).
    """

    def log_weights(self, candidates: Candidates) -> Tensor:
        """Logarithms of those distances. `[E, N]`"""
        values = candidates.values
        top = values.amax(1, keepdim=True).clamp(min=0.0)
        return (top - values).clamp(min=LEAST_WEIGHT).log()
