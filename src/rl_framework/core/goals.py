"""Environments with goals: what their observations and their rewards are.

Source: GoalEnv of Gymnasium-Robotics (https://robotics.farama.org/content/multi-goal_api/).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import gymnasium as gym
from gymnasium import spaces

from rl_framework.errors import SpaceError

if TYPE_CHECKING:
    from torch import Tensor

OBSERVATION = "observation"
ACHIEVED_GOAL = "achieved_goal"
DESIRED_GOAL = "desired_goal"
GOAL_KEYS = (OBSERVATION, ACHIEVED_GOAL, DESIRED_GOAL)
GOAL_SPACES = (spaces.Box, spaces.MultiBinary, spaces.MultiDiscrete)


class GoalReward(Protocol):
    """What an environment with goals pays for a state, whatever the goal was at the time."""

    def __call__(self, achieved: Tensor, desired: Tensor) -> Tensor:
        """Rewards.

        Args:
            achieved: What the transitions led to. `[N, *goal]`
            desired: What was, or is said to have been, the goal. `[N, *goal]`

        Returns:
            One float32 per row, on the device of the arguments. `[N]`
        """
        ...


def is_goal_space(space: gym.Space[Any]) -> bool:
    """Whether observations tell an achieved and a desired goal, beside what else is observed."""
    return isinstance(space, spaces.Dict) and set(GOAL_KEYS) <= set(space.spaces)


def check_goal_space(space: gym.Space[Any], *, who: str) -> None:
    """Refuse observations without goals.

    Args:
        space: The observations.
        who: What needs goals, for the message.

    Raises:
        SpaceError: There are none, or achieved and desired goals are not numbers of one shape.
    """
    if not is_goal_space(space):
        raise SpaceError(
            f"{who} needs observations with goals, a Dict with the entries {', '.join(GOAL_KEYS)}; got {space}."
        )
    achieved, desired = space[ACHIEVED_GOAL], space[DESIRED_GOAL]  # type: ignore[index]  # it is a Dict
    if not all(isinstance(goal, GOAL_SPACES) for goal in (achieved, desired)) or achieved.shape != desired.shape:
        raise SpaceError(
            f"{who} needs goals that are numbers of one shape (Box, MultiBinary, MultiDiscrete); got achieved "
            f"{achieved}, desired {desired}."
        )
