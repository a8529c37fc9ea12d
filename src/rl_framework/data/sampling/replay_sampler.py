"""Minibatches of a replay: rows are selected, goals exchanged, several steps joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol, TypeAlias, get_args

import torch
from torch import Tensor

from rl_framework.core.goals import ACHIEVED_GOAL, DESIRED_GOAL, is_goal_space
from rl_framework.core.trees import Tree
from rl_framework.data.replay_batch import ReplayBatch
from rl_framework.data.replay_buffer import ReplayBuffer
from rl_framework.data.sampling.hindsight import LED_TO, Hindsight, Relabelling
from rl_framework.data.sampling.n_step import discount_powers, n_step_returns, one_step_returns, windows
from rl_framework.data.sampling.selection import Selection
from rl_framework.errors import InvalidInputError, SpaceError, UnknownOptionError

Endings: TypeAlias = Literal["environment", "never", "first_visit"]
STARTS = ("observations", "actions")
OUTCOMES = ("rewards", "terminated")
ENDS = ("next_observations",)
WHOLE = (*STARTS, *OUTCOMES, *ENDS)
REACHED = -0.5
"""Rewards above it say that a goal is reached: those of environments with goals are 0 where it is, and -1 elsewhere."""


class Sampler(Protocol):
    """Gives the minibatches that a rule learns from."""

    def sample(self, n: int, generator: torch.Generator) -> ReplayBatch:
        """A minibatch.

        Args:
            n: How many transitions.
            generator: What is drawn comes from it; of the replay's device.

        Raises:
            InvalidInputError: Nothing is stored.
        """
        ...

    def added(self, rows: Tensor) -> None:
        """Take note of rows that were just stored. `[B]`"""
        ...

    def update_priorities(self, rows: Tensor, errors: Tensor) -> None:
        """Take note of how wrong the learner was about a whole minibatch, in its order.

        Args:
            rows: Those of the minibatch. `[N]`
            errors: Temporal-difference errors, of either sign. `[N]`
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything beside the replay that its next call depends on, as a plain tree."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        ...


class ReplaySampler:
    """Draws transitions of one or several steps from a replay, with hindsight if asked to.

    The replay's columns are `observations`, `actions`, `rewards`, `next_observations` and `terminated`; with goals also
    `environment_goals`. The desired goal within observations is the one that was pursued.

    Args:
        replay: What is drawn from.
        selection: Which rows.
        gammas: Discount factors; each gets a column of rewards and of discounts.
        n_step: How many steps a transition stands for, as far as its episode has them.
        relabel: Hindsight, None to leave goals and rewards as they were.
        endings: Behind which steps nothing counts any more: those that ended the task in the environment, none, or
            those that reached the goal, also one that was given in hindsight.

    Raises:
        InvalidInputError: A setting is out of range.
        SpaceError: What is stored has no goals, and hindsight or the endings need them.
    """

    def __init__(
        self,
        replay: ReplayBuffer,
        selection: Selection,
        *,
        gammas: Sequence[float],
        n_step: int = 1,
        relabel: Hindsight | None = None,
        endings: Endings = "environment",
    ) -> None:
        _check(replay, gammas, n_step, endings)
        self.selection = selection
        self._replay, self._n_step, self._endings = replay, n_step, endings
        self._relabelling = None if relabel is None else Relabelling(replay, relabel)
        self._powers = discount_powers(gammas, n_step, replay.device)
        self._gammas = self._powers[1]

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> ReplayBatch:
        """Draw a minibatch of n transitions."""
        selected = self.selection.select(n, generator)
        steps = self._single if self._n_step == 1 else self._several
        batch = steps(selected.rows, generator)
        return batch if selected.weights is None else replace(batch, weights=selected.weights)

    def added(self, rows: Tensor) -> None:
        """Take note of rows that were just stored. `[B]`"""
        self.selection.added(rows)

    def update_priorities(self, rows: Tensor, errors: Tensor) -> None:
        """Take note of how wrong the learner was. `[N]` and `[N]`"""
        self.selection.update_priorities(rows, errors)

    def state_dict(self) -> dict[str, Any]:
        """That of the selection."""
        return {"selection": self.selection.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.selection.load_state_dict(state["selection"])

    def _single(self, rows: Tensor, generator: torch.Generator) -> ReplayBatch:
        """Transitions of one step, read in one go."""
        read = self._replay.read(WHOLE, rows)
        goals = self._goals(rows, read, generator)
        achieved = None if goals is None else read["next_observations"][ACHIEVED_GOAL]
        rewards, ended = self._outcomes(read, achieved, goals)
        return self._batch(rows, read, goals, one_step_returns(rewards, ended, self._gammas))

    def _several(self, rows: Tensor, generator: torch.Generator) -> ReplayBatch:
        """Transitions of several steps: their start, what happened on the way, and where it led."""
        start = self._replay.read(STARTS, rows)
        goals = self._goals(rows, start, generator)
        window = windows(self._replay, rows, self._n_step)
        read = self._replay.read(OUTCOMES if goals is None else (*OUTCOMES, LED_TO), window.rows.reshape(-1))
        throughout = None if goals is None else goals.repeat_interleave(self._n_step, 0)
        rewards, ended = (part.view(window.rows.shape) for part in self._outcomes(read, read.get(LED_TO), throughout))
        returns = n_step_returns(rewards, ended, window.inside, self._powers)
        last = window.rows.gather(1, returns.steps.unsqueeze(1) - 1).squeeze(1)
        read = {**start, **self._replay.read(ENDS, last)}
        return self._batch(rows, read, goals, (returns.rewards, returns.discounts))

    def _goals(self, rows: Tensor, read: Mapping[str, Tree], generator: torch.Generator) -> Tensor | None:
        if self._relabelling is None:
            return None
        return self._relabelling.goals(rows, read["observations"][DESIRED_GOAL], generator)

    def _outcomes(
        self, read: Mapping[str, Tree], achieved: Tensor | None, goals: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Reward of each step, and whether nothing counts behind it. `[M]` each"""
        rewards, ended = read["rewards"], read["terminated"]
        if self._relabelling is not None and achieved is not None and goals is not None:
            rewards = self._relabelling.settings.reward(achieved, goals)
        if self._endings == "first_visit":
            return rewards, rewards > REACHED
        return rewards, ended if self._endings == "environment" else torch.zeros_like(ended)

    def _batch(
        self, rows: Tensor, read: Mapping[str, Tree], goals: Tensor | None, returns: tuple[Tensor, Tensor]
    ) -> ReplayBatch:
        observations, following = read["observations"], read["next_observations"]
        rewards, discounts = returns
        if self._relabelling is not None and goals is not None:
            rewards = self._relabelling.shaped(rewards, discounts, observations, following, goals)
            observations, following = {**observations, DESIRED_GOAL: goals}, {**following, DESIRED_GOAL: goals}
        return ReplayBatch(
            observations=observations,
            actions=read["actions"],
            rewards=rewards,
            next_observations=following,
            discounts=discounts,
            rows=rows,
        )


def _check(replay: ReplayBuffer, gammas: Sequence[float], n_step: int, endings: str) -> None:
    if endings not in get_args(Endings):
        raise UnknownOptionError.of("kind of endings", endings, get_args(Endings))
    if endings == "first_visit" and not is_goal_space(replay.columns["observations"]):
        raise SpaceError(
            "Endings at the first visit of a goal need observations with goals; got "
            f"{replay.columns['observations']}. Take the endings of the environment instead."
        )
    if n_step < 1:
        raise InvalidInputError(f"A transition stands for one step or more, got n_step={n_step}.")
    if not gammas or not all(0.0 <= gamma <= 1.0 for gamma in gammas):
        raise InvalidInputError(f"Expected one or more discount factors from 0 to 1, got {tuple(gammas)}.")
