"""What tasks with goals share: their observations, their reward, when an episode was a success."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor
from typing_extensions import override

from rl_framework.core.goals import ACHIEVED_GOAL, DESIRED_GOAL, OBSERVATION, GoalReward
from rl_framework.core.trees import Tree
from rl_framework.envs.tensor_task import SimulatedTask


class GoalTask(SimulatedTask):
    """A task in which a place `[B, d]` is to be brought to a goal `[B, d]`; the place is all there is to see.

    Args:
        n_envs: Number of rows, B.
        places: Space of one place, and of one goal.
        action_space: Space of one action.
        goal_reward: What a place pays for a goal: 0 where it is achieved, below that elsewhere.
        first_visit: Whether an episode ends, as a terminated one, with the step that achieves the goal. Otherwise
            only the last step of an episode counts as success.
        **options: See `SimulatedTask`.

    Attributes:
        goal_reward: What a place pays for a goal.
        first_visit: Whether an episode ends with the step that achieves the goal.
    """

    def __init__(
        self,
        n_envs: int,
        places: spaces.Box,
        action_space: gym.Space[Any],
        *,
        goal_reward: GoalReward,
        first_visit: bool,
        **options: Any,
    ) -> None:
        self.goal_reward = goal_reward
        self.first_visit = first_visit
        observed: dict[str, gym.Space[Any]] = {OBSERVATION: places, ACHIEVED_GOAL: places, DESIRED_GOAL: places}
        super().__init__(n_envs, spaces.Dict(observed), action_space, **options)

    def judge(self, state: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], Tensor, Tensor | None]:
        """What `advance` has to give for the state `{"place", "goal"}` that a step led to."""
        rewards = self.goal_reward(state["place"], state["goal"])
        return state, rewards, (rewards >= 0.0 if self.first_visit else None)

    @override
    def observe(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        place, goal = (state[name].to(torch.float32) for name in ("place", "goal"))
        return {OBSERVATION: place, ACHIEVED_GOAL: place.clone(), DESIRED_GOAL: goal}

    @override
    def successes(self, observations: Tree) -> Tensor:
        return self.goal_reward(observations[ACHIEVED_GOAL], observations[DESIRED_GOAL]) >= 0.0
