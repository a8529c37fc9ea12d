"""Acting from a table of action values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from rl_framework.algorithms.state_index import StateIndex
from rl_framework.core.policy import BoolArray, PolicyOutput
from rl_framework.core.trees import Tree

FloatArray = npt.NDArray[np.float64]
Uniform = Callable[[tuple[int, ...]], FloatArray]


class TabularPolicy:
    """Takes the action with the highest value, or now and then any other.

    `deterministic=True` takes the best action, the first of several equal ones. Otherwise every action is drawn at
    random with probability `epsilon`, and the best one is taken with the rest, equal ones at random; the draws come
    from NumPy's global generator, which an evaluation seeds. Without `action_masks`, the masks that were seen last
    for the same observations apply.

    Attributes:
        values: What each action is worth in each state. `[S, A]`
        allowed: Actions that were allowed when the state was seen last, None without masks. `[S, A]`
        epsilon: Probability of an action drawn at random.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.spaces.Discrete,
        states: StateIndex,
        values: FloatArray,
    ) -> None:
        self.observation_space: gym.Space[Any] = observation_space
        self.action_space: gym.Space[Any] = action_space
        self.values = values
        self.allowed: BoolArray | None = None
        self.epsilon = 0.0
        self._states = states
        self._first_action = action_space.start

    def act(
        self,
        observations: Tree,
        state: Tree = None,
        *,
        episode_starts: BoolArray | None = None,  # noqa: ARG002  (the protocol's; a table has no memory)
        action_masks: BoolArray | None = None,
        deterministic: bool = False,
    ) -> PolicyOutput:
        """Choose one action per observation.

        Raises:
            SpaceError: An observation is outside the space.
        """
        rows = self._states.encode(observations)
        masks = action_masks if action_masks is not None or self.allowed is None else self.allowed[rows]
        if deterministic:
            choices = np.argmax(masked(self.values[rows], masks), axis=1)
        else:
            choices = epsilon_greedy(self.values[rows], masks, self.epsilon, np.random.random)
        return PolicyOutput(self.actions_of(choices), state)

    def actions_of(self, choices: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """The environment's actions of column numbers. Shape `[B]`."""
        return (choices + self._first_action).astype(self.action_space.dtype)


def masked(values: FloatArray, masks: BoolArray | None) -> FloatArray:
    """Values with minus infinity where an action is not allowed. Shape `[B, A]`."""
    return values if masks is None else np.where(masks, values, -np.inf)


def epsilon_greedy(
    values: FloatArray, masks: BoolArray | None, epsilon: float, uniform: Uniform
) -> npt.NDArray[np.int64]:
    """Column of the best action per row, equal ones at random, or with probability epsilon of any allowed one.

    Args:
        values: Action values. `[B, A]`
        masks: True where an action is allowed; None where all are. `[B, A]`
        epsilon: Probability of a random action.
        uniform: Draws numbers in [0, 1) of a given shape; drawn from twice, whatever the values are.
    """
    explores = uniform((len(values), 1)) < epsilon
    candidates = masked(values, masks)
    is_open = explores | (candidates == candidates.max(axis=1, keepdims=True))
    if masks is not None:
        is_open &= masks
    choices: npt.NDArray[np.int64] = np.where(is_open, uniform(values.shape), -1.0).argmax(axis=1)
    return choices
