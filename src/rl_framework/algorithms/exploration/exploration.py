"""What all kinds of exploration have in common: some actions are replaced by random ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from gymnasium import spaces
from torch import Tensor

from rl_framework.algorithms.goal_selection.goal_selection import GoalSelection
from rl_framework.algorithms.part_configs import PartConfig
from rl_framework.algorithms.parts import Part, Workshop
from rl_framework.core.trees import Tree
from rl_framework.errors import SpaceError
from rl_framework.nn.unit_actions import UnitActions


class Actor(Protocol):
    """What acts; update rules do."""

    def act(self, observations: Tree, *, deterministic: bool, generator: torch.Generator) -> Tensor:
        """Actions in [-1, 1], `[B, A]`, or choices counted from 0, `[B]`.

        Args:
            observations: `[B, ...]` per leaf
            deterministic: Whether the likeliest or best ones, instead of drawn ones.
            generator: What is drawn comes from here.
        """
        ...


class Exploration(Part, ABC):
    """Actions for gathering experience: the policy's, disturbed, and some replaced by random ones.

    Each row is replaced independently of the others, with the probability `epsilon`, to which the goals that are
    pursued, if there are any, may add (`GoalSelection.extra_epsilon`).
    """

    action_kind: ClassVar[type[spaces.Box] | type[spaces.Discrete] | None] = None
    """The kind of action space that it can do with, None if with either."""
    _goals: GoalSelection | None = None

    def set_up(self, workshop: Workshop) -> None:
        """Look at the actions, and for what sets goals.

        Raises:
            SpaceError: It cannot disturb such actions.
        """
        space = workshop.spec.action_space
        wanted = self.action_kind or (spaces.Box, spaces.Discrete)
        if not isinstance(space, wanted):
            raise SpaceError(
                f"{type(self).__name__} needs actions that are a "
                f"{'Box or Discrete' if self.action_kind is None else self.action_kind.__name__}, got {space}; choose "
                "another exploration."
            )
        self._actions = UnitActions(space)
        self._device = workshop.device
        self._goals = workshop.parts.find(GoalSelection)

    @property
    @abstractmethod
    def epsilon(self) -> float:
        """With what probability an action is replaced by a random one now."""

    @abstractmethod
    def propose(self, actor: Actor, observations: Tree, generator: torch.Generator) -> Tensor:
        """Actions before some of them are replaced. `[B, A]` or `[B]`"""

    @torch.no_grad()
    def act(self, rule: Actor, observations: Tree, *, generator: torch.Generator) -> Tensor:
        """Actions for gathering experience.

        Args:
            rule: Knows what to do.
            observations: `[B, ...]` per leaf
            generator: What is drawn comes from here.

        Returns:
            Actions in [-1, 1], `[B, A]`, or choices counted from 0, `[B]`.
        """
        actions = self.propose(rule, observations, generator)
        epsilon = self.epsilon
        extra = None if self._goals is None else self._goals.extra_epsilon
        if extra is None and epsilon == 0.0:
            return actions
        uniform = torch.rand(len(actions), generator=generator, device=actions.device)
        replaced = uniform < (epsilon if extra is None else extra + epsilon)
        random = self._actions.uniform(len(actions), generator)
        return torch.where(replaced.reshape(-1, *[1] * (actions.dim() - 1)), random, actions)


@dataclass(frozen=True, kw_only=True, slots=True)
class ExplorationConfig(PartConfig):
    """Base of the settings of all kinds of exploration."""

    def make(self) -> Exploration:
        """The part that is meant."""
        raise NotImplementedError


def in_a_straight_line(initial: float, final: float, n_steps: int, decay_steps: int) -> float:
    """A setting that becomes another one over some steps, after so many of them; 0 for the other one at once."""
    return final if n_steps >= decay_steps else initial + (final - initial) * (n_steps / decay_steps)
