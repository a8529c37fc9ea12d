"""Which observations have goals, and which goals are understood."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from rl_framework.core.goals import check_goal_space, is_goal_space
from rl_framework.errors import SpaceError

SEEN = spaces.Box(-1.0, 1.0, (3,))


def with_goals(achieved: gym.Space[Any], desired: gym.Space[Any] | None = None) -> spaces.Dict:
    goals = {"achieved_goal": achieved, "desired_goal": achieved if desired is None else desired}
    return spaces.Dict({"observation": SEEN, **goals})


@pytest.mark.parametrize(
    "goal",
    [
        spaces.Box(-1.0, 1.0, (2,)),
        spaces.Box(0, 255, (4, 4, 3), np.uint8),
        spaces.MultiBinary(5),
        spaces.MultiDiscrete([3, 4]),
    ],
)
def test_goals_are_numbers_of_any_kind(goal: gym.Space[Any]) -> None:
    assert is_goal_space(with_goals(goal))
    check_goal_space(with_goals(goal), who="The test")


def test_other_bounds_of_the_desired_goal_are_fine() -> None:
    check_goal_space(with_goals(spaces.Box(-1.0, 1.0, (2,)), spaces.Box(0.0, 9.0, (2,), np.float64)), who="The test")


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (SEEN, "The test needs observations with goals, a Dict with the entries observation, achieved_goal, desired"),
        (spaces.Dict({"observation": SEEN, "desired_goal": SEEN}), "needs observations with goals"),
        (with_goals(spaces.Box(0.0, 1.0, (2,)), spaces.Box(0.0, 1.0, (3,))), "numbers of one shape"),
        (with_goals(spaces.Dict({"place": SEEN})), r"numbers of one shape \(Box, MultiBinary, MultiDiscrete\); got"),
        (with_goals(spaces.Discrete(4)), "numbers of one shape"),
    ],
)
def test_what_is_no_goal_is_refused(space: gym.Space[Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        check_goal_space(space, who="The test")
