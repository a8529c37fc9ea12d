"""Learns from recorded steps as if other goals had been pursued in them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from rl_framework.core.goals import ACHIEVED_GOAL, DESIRED_GOAL, GoalReward, check_goal_space
from rl_framework.core.trees import Tree
from rl_framework.data.replay_buffer import ReplayBuffer
from rl_framework.data.sampling.goal_mixture import SOURCES, GoalMixture
from rl_framework.errors import InvalidInputError

LED_TO = f"next_observations.{ACHIEVED_GOAL}"
PURSUED = f"observations.{DESIRED_GOAL}"
REAL, FUTURE, ACTUAL, ACHIEVED, BEHAVIOURAL = range(len(SOURCES))


@dataclass(frozen=True, kw_only=True, slots=True)
class Hindsight:
    """Settings of relabelling.

    A future goal is what was achieved by the step itself or by any of the later ones of its episode that are stored,
    each with the same probability. That a return goes over several steps changes nothing about it: the goal may be
    reached within them.

    Attributes:
        mixture: Where goals come from, as shares or as a string for `GoalMixture.parse`.
        reward: What the environment pays for a state under a goal. All rewards are computed anew, those of real goals
            too.
        warm_up: Number of stored steps up to which all goals are future ones, while there is little else to learn
            from. A mixture of real goals only relabels nothing, and has no warm-up.
        shaping: How much getting nearer to the goal pays: c of the added `c * (discount * phi(next) - phi)`, with phi
            the negative Euclidean distance, 0 behind an ending (Ng, Harada and Russell, Policy invariance under reward
            transformations, 1999).
    """

    mixture: GoalMixture | str
    reward: GoalReward
    warm_up: int = 25_000
    shaping: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "mixture", GoalMixture.of(self.mixture))
        if self.warm_up < 0 or self.shaping < 0.0:
            raise InvalidInputError(
                f"The warm-up and the shaping of hindsight must be 0 or more; got {self.warm_up} and {self.shaping}."
            )


class Relabelling:
    """Draws goals for rows of a replay.

    Args:
        replay: What is relabelled.
        hindsight: The settings.

    Raises:
        SpaceError: What is stored has no goals.
    """

    def __init__(self, replay: ReplayBuffer, hindsight: Hindsight) -> None:
        check_goal_space(replay.columns["observations"], who="Hindsight")
        self._replay, self.settings = replay, hindsight
        self._mixture = GoalMixture.of(hindsight.mixture)
        self._bounds = _bounds(self._mixture, replay.device)
        self._early_bounds = _bounds(GoalMixture(future=1.0), replay.device)

    def goals(self, rows: Tensor, pursued: Tensor, generator: torch.Generator) -> Tensor:
        """Goals for rows.

        Args:
            rows: `[N]`
            pursued: The goals that were pursued in them. `[N, *goal]`
            generator: What is drawn comes from it.

        Returns:
            `[N, *goal]`
        """
        if not self._mixture.relabels:
            return pursued
        source_draws, step_draws = torch.rand(
            2, len(rows), dtype=torch.float64, device=rows.device, generator=generator
        ).unbind()
        sources = torch.bucketize(source_draws, self._current_bounds(), right=True)
        places = self._replay.any_later(rows, step_draws)
        if self._mixture.draws_anywhere:
            anywhere = self._replay.uniform_rows(len(rows), generator)
            places = torch.where(sources == FUTURE, places, anywhere)
        goals = _where(sources == REAL, pursued, self._read(LED_TO, places))
        if self._mixture.actual > 0.0:
            goals = _where(sources == ACTUAL, self._read("environment_goals", places), goals)
        if self._mixture.behavioural > 0.0:
            goals = _where(sources == BEHAVIOURAL, self._read(PURSUED, places), goals)
        return goals

    def shaped(self, rewards: Tensor, discounts: Tensor, observations: Tree, following: Tree, goals: Tensor) -> Tensor:
        """Rewards with what getting nearer to the goals pays; over several steps it adds up to the same.

        Args:
            rewards: `[N, k]`
            discounts: `[N, k]`
            observations: Where transitions start. `[N, ...]` per leaf
            following: Where they lead. `[N, ...]` per leaf
            goals: `[N, *goal]`

        Returns:
            `[N, k]`
        """
        if self.settings.shaping == 0.0:
            return rewards
        before = _distance(observations[ACHIEVED_GOAL], goals)
        after = _distance(following[ACHIEVED_GOAL], goals)
        return rewards + self.settings.shaping * (before - discounts * after)

    def _current_bounds(self) -> Tensor:
        if self.settings.warm_up == 0:
            return self._bounds
        return torch.where(self._replay.added <= self.settings.warm_up, self._early_bounds, self._bounds)

    def _read(self, name: str, rows: Tensor) -> Tensor:
        found: Tensor = self._replay.read([name], rows)[name]
        return found


def _bounds(mixture: GoalMixture, device: torch.device | str) -> Tensor:
    """Where one source ends and the next begins, between 0 and 1. `[4]`, float64"""
    return torch.tensor(list(accumulate(mixture.shares))[:-1], dtype=torch.float64, device=device)


def _where(condition: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Goal by goal the one or the other. `[N]`, `[N, *goal]`, `[N, *goal]`"""
    return torch.where(condition.view(-1, *[1] * (first.dim() - 1)), first, second)


def _distance(achieved: Tensor, goals: Tensor) -> Tensor:
    """Euclidean. `[N, 1]`"""
    distances: Tensor = torch.linalg.vector_norm((achieved.float() - goals.float()).flatten(1), dim=1, keepdim=True)
    return distances
