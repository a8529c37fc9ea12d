"""The reward of environments with goals, asked for when there are environments."""

from __future__ import annotations

from torch import Tensor

from rl_framework.core.goals import GoalReward
from rl_framework.envs.goal_rewards import find_goal_reward
from rl_framework.envs.tensor_env import TensorEnv


class DeferredGoalReward:
    """What environments pay for reaching goals, read from them when it is first needed; a `GoalReward`.

    A learner is made before its environments may be touched, and goes from environments to environments.

    Args:
        environments: Those that it learns in.
    """

    def __init__(self, environments: TensorEnv) -> None:
        self._environments = environments
        self._found: GoalReward | None = None

    def __call__(self, achieved: Tensor, desired: Tensor) -> Tensor:
        """Rewards; see `GoalReward`. `[N]`"""
        return self.found(achieved, desired)

    @property
    def found(self) -> GoalReward:
        """The reward itself.

        Raises:
            InvalidInputError: The environments do not tell it.
        """
        if self._found is None:
            self._found = find_goal_reward(self._environments)
        return self._found

    def move_to(self, environments: TensorEnv) -> None:
        """Ask other environments from now on."""
        self._environments, self._found = environments, None
