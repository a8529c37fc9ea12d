"""One contract for environments with goals: a reward of 0 where the goal is achieved, and `is_success` in the info.

Fetch and Hand of Gymnasium-Robotics keep to it. Its mazes pay 1 and 0 and say `success`; `adapt_goal_environment`
translates them. The prefix `goal:` before an id does the same: `goal:PointMaze_UMaze-v3`.

Source: https://robotics.farama.org/envs/maze/point_maze/, https://robotics.farama.org/envs/fetch/reach/.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from rl_framework.core.goals import check_goal_space
from rl_framework.core.trees import Tree
from rl_framework.envs.registration import find_spec
from rl_framework.errors import InvalidInputError

METHOD = "compute_reward"
"""What environments with goals have: `compute_reward(achieved_goal, desired_goal, info)`."""

MAZE = "gymnasium_robotics.envs.maze.maze_v4:MazeEnv"
MAZE_RADIUS = 0.45
"""Within which the mazes count a goal as achieved."""


class GoalContract(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """An environment with goals, with a reward of 0 where the goal is achieved, which says `is_success`.

    Args:
        env: The environment.
        reward_of_success: What it pays where the goal is achieved; so much less is paid here.
        first_visit: Whether an episode ends, as a terminated one, with the first step that achieves the goal.
        distance_threshold: The distance from the goal that it counts as success, where that is all that the reward
            depends on; lets relabelling stay on the device.

    Raises:
        SpaceError: The environment has no goals.
        InvalidInputError: It has no `compute_reward`.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        *,
        reward_of_success: float = 0.0,
        first_visit: bool = False,
        distance_threshold: float | None = None,
    ) -> None:
        RecordConstructorArgs.__init__(
            self, reward_of_success=reward_of_success, first_visit=first_visit, distance_threshold=distance_threshold
        )
        super().__init__(env)
        check_goal_space(env.observation_space, who="The goal contract")
        if not env.has_wrapper_attr(METHOD):
            raise InvalidInputError(f"{env} is a goal environment without {METHOD}(achieved_goal, desired_goal, info).")
        self.reward_of_success = reward_of_success
        self.first_visit = first_visit
        if distance_threshold is not None:
            self.distance_threshold = distance_threshold

    def step(self, action: Any) -> tuple[Tree, float, bool, bool, dict[str, Any]]:
        """Step, and say by the contract how it went."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        paid = float(reward) - self.reward_of_success
        is_success = bool(info.get("is_success", info.get("success", paid >= 0.0)))
        ends = terminated or (self.first_visit and is_success)
        return observation, paid, ends, truncated and not ends, {**info, "is_success": is_success}

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        """Rewards of one or many pairs of goals. `[..., *goal]` each -> `[...]`"""
        reward = self.env.get_wrapper_attr(METHOD)(achieved_goal, desired_goal, info)
        return np.subtract(reward, self.reward_of_success)


def adapt_goal_environment(env: gym.Env[Any, Any], *, first_visit: bool = False) -> gym.Env[Any, Any]:
    """The same environment by the contract; what a maze of Gymnasium-Robotics does otherwise is known here.

    Args:
        env: An environment with goals.
        first_visit: Whether an episode ends, as a terminated one, with the first step that achieves the goal.

    Raises:
        SpaceError: It has no goals.
        InvalidInputError: It has no `compute_reward`.
    """
    if not _is_maze(env):
        return GoalContract(env, first_visit=first_visit)
    is_sparse = getattr(env.unwrapped, "reward_type", None) == "sparse"
    threshold = MAZE_RADIUS if is_sparse else None
    return GoalContract(env, reward_of_success=1.0, first_visit=first_visit, distance_threshold=threshold)


def make_goal_environment(env_id: str, *, first_visit: bool = False, **options: Any) -> gym.Env[Any, Any]:
    """Make a registered environment with goals, by the contract.

    Args:
        env_id: Its id, such as `FetchReach-v4` or `PointMaze_UMaze-v3`.
        first_visit: Whether an episode ends, as a terminated one, with the first step that achieves the goal.
        **options: Of the environment itself.

    Raises:
        MissingExtraError: Gymnasium-Robotics is not installed.
        SpaceError: It has no goals.
        InvalidInputError: There is no such environment, or it has no `compute_reward`.
    """
    spec = find_spec(env_id)
    try:
        env: gym.Env[Any, Any] = gym.make(spec, **options)
    except gym.error.Error as error:
        raise InvalidInputError(f"{env_id!r} cannot be made: {error}") from error
    return adapt_goal_environment(env, first_visit=first_visit)


def _is_maze(env: gym.Env[Any, Any]) -> bool:
    """Whether it is one of Gymnasium-Robotics' mazes, without importing them."""
    return MAZE in [f"{cls.__module__}:{cls.__qualname__}" for cls in type(env.unwrapped).__mro__]
