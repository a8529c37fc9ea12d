"""Rows of rare episodes come most often."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from rl_framework.core.goals import check_goal_space
from rl_framework.data.replay_buffer import ReplayBuffer
from rl_framework.data.sampling.hindsight import LED_TO
from rl_framework.data.sampling.selection import Selected
from rl_framework.data.sampling.sum_tree import SumTree
from rl_framework.errors import InvalidInputError
from rl_framework.functional.gaussian_mixture import fit_gaussian_mixture

TrajectoryDensity: TypeAlias = Callable[[Tensor], Tensor]
"""Fits a density to trajectories of achieved goals `[M, D]` and gives the logarithm of each one's. `[M]`"""


@dataclass(frozen=True, kw_only=True, slots=True)
class MixtureDensity:
    """The density of the source: a mixture of normal distributions, fitted anew to whatever it is given.

    Attributes:
        generator: What is drawn comes from it; of the replay's device.
        n_components: How many distributions.
    """

    generator: torch.Generator
    n_components: int = 3

    def __call__(self, trajectories: Tensor) -> Tensor:
        """Logarithms of the densities. `[M, D]` to `[M]`, float64"""
        mixture = fit_gaussian_mixture(trajectories, self.generator, n_components=self.n_components)
        return mixture.log_densities(trajectories)


class TrajectorySelection:
    """Draws episodes by the rank of how rare their achieved goals are, and each step of an episode evenly.

    The rarest of M episodes has rank M, the least rare one rank 1; episodes are drawn in proportion to
    `rank ** (1 / (temperature + 0.01))`. Steps of running episodes, and all that was stored since the last `refit`,
    have the average probability.

    Source: Zhao, Sun and Tresp, Maximum Entropy-Regularized Multi-Goal Reinforcement Learning (2019), algorithm 1.

    Args:
        replay: What is drawn from, with goals.
        temperature: The larger, the more evenly.
        points: Number of achieved goals by which an episode is described, evenly spread over its steps; the length of
            episodes that all have the same describes them in full.

    Raises:
        SpaceError: What is stored has no goals.
        InvalidInputError: A setting is out of range.
    """

    def __init__(self, replay: ReplayBuffer, *, temperature: float = 1.0, points: int = 50) -> None:
        check_goal_space(replay.columns["observations"], who="A selection by achieved goals")
        if temperature < 0.0 or points < 1:
            raise InvalidInputError(
                "A selection by achieved goals needs a temperature of 0 or more and one point or more; got "
                f"{temperature} and {points}."
            )
        self._replay, self._exponent, self._points = replay, 1.0 / (temperature + 0.01), points
        self._tree = SumTree(replay.capacity, replay.device)
        if len(replay) > 0:
            self.added(torch.arange(len(replay), device=replay.device))

    @property
    def priorities(self) -> Tensor:
        """Those of all rows, 1 on average, 0 where none is stored. `[capacity]`, float64"""
        return self._tree.priorities

    def refit(self, density: TrajectoryDensity) -> None:
        """Rank the episodes that are over and stored in full.

        Args:
            density: Of their achieved goals.
        """
        priorities = torch.zeros_like(self._tree.priorities)
        priorities[: len(self._replay)] = 1.0
        first, lengths = self._replay.episodes()
        if len(first) > 0:
            chances = _chances(density(self._trajectories(first, lengths)), self._exponent)
            rows = self._rows(first, lengths)
            priorities[rows] = (chances / lengths * len(rows)).repeat_interleave(lengths)
        self._tree.load(priorities)

    def select(self, n: int, generator: torch.Generator) -> Selected:
        """Draw n rows."""
        if len(self._replay) == 0:
            raise InvalidInputError("There is nothing to draw from: the replay is empty. Add transitions first.")
        draws = torch.rand(n, dtype=torch.float64, device=self._replay.device, generator=generator)
        return Selected(rows=self._tree.find(draws * self._tree.total))

    def added(self, rows: Tensor) -> None:
        """Give new rows the average probability."""
        self._tree.set(rows, torch.ones(len(rows), dtype=torch.float64, device=self._replay.device))

    def update_priorities(self, rows: Tensor, errors: Tensor) -> None:
        """Errors change nothing."""

    def state_dict(self) -> dict[str, Any]:
        """The priorities."""
        return {"priorities": self._tree.priorities.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave.

        Raises:
            InvalidInputError: It is that of a replay with another capacity.
        """
        self._tree.load(state["priorities"])

    def _trajectories(self, first: Tensor, lengths: Tensor) -> Tensor:
        """What episodes achieved, at evenly spread steps. `[M, points * goal]`"""
        spread = torch.linspace(0.0, 1.0, self._points, dtype=torch.float64, device=first.device)
        steps = ((lengths - 1).unsqueeze(1) * spread).round().long()
        rows = self._replay.later(first.repeat_interleave(self._points), steps.view(-1))
        goals: Tensor = self._replay.read([LED_TO], rows)[LED_TO]
        return goals.reshape(len(first), -1)

    def _rows(self, first: Tensor, lengths: Tensor) -> Tensor:
        """All rows of episodes, one after the other."""
        starts = (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
        steps = torch.arange(len(starts), device=first.device) - starts
        return self._replay.later(first.repeat_interleave(lengths), steps)


def _chances(log_densities: Tensor, exponent: float) -> Tensor:
    """Probabilities of episodes; those of one density have one rank. `[M]`, float64"""
    ranks: Tensor = torch.unique(-log_densities, return_inverse=True)[1] + 1
    weights = (ranks.double() / ranks.max()).pow(exponent)
    return weights / weights.sum()
