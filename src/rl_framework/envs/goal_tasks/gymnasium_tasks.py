"""The tasks with goals as single Gymnasium environments, for other libraries and for pictures.

`rl_framework/BitFlipping-v0` and the others are registered when `open_environments` meets them; `register` does it
for `gymnasium.make`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rl_framework.core.goals import ACHIEVED_GOAL, DESIRED_GOAL
from rl_framework.core.trees import Tree, map_tree
from rl_framework.envs.goal_tasks.bit_flipping import BitFlipping
from rl_framework.envs.goal_tasks.goal_task import GoalTask
from rl_framework.envs.goal_tasks.pictures import Picture, picture_of_bits, picture_of_maze
from rl_framework.envs.goal_tasks.point_maze import PointMaze2D, PointUMaze2D
from rl_framework.envs.registration import OWN_ENVIRONMENTS
from rl_framework.errors import UnknownOptionError

Info = dict[str, Any]


class GoalTaskEnv(gym.Env[Tree, Any]):
    """One row of a task with goals, as a Gymnasium environment with `compute_reward`.

    Args:
        task: The task, with one row.
        render_mode: `"rgb_array"` for pictures.
    """

    metadata: ClassVar[Info] = {"render_modes": ["rgb_array"], "render_fps": 10}  # type: ignore[misc]  # Gymnasium's is no ClassVar.

    def __init__(self, task: GoalTask, render_mode: str | None = None) -> None:
        if render_mode not in (None, "rgb_array"):
            raise UnknownOptionError.of("render mode", str(render_mode), self.metadata["render_modes"])
        self.render_mode = render_mode
        self.task = task
        self.observation_space = task.spec.observation_space
        self.action_space = task.spec.action_space

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Tree, Info]:
        """Open an episode."""
        super().reset(seed=seed)
        observations = self.task.reset(seed, options)
        return _first(observations), {"is_success": bool(self.task.successes(observations)[0])}

    def step(self, action: Any) -> tuple[Tree, float, bool, bool, Info]:
        """Take a step."""
        given = np.asarray(action)[None]
        step = self.task.step(torch.from_numpy(np.array(given, np.int64 if given.dtype.kind in "iu" else np.float32)))
        seen = step.observations if step.final is None else step.final
        info = {"is_success": bool(self.task.successes(seen)[0])}
        return _first(seen), float(step.rewards), bool(step.terminated), bool(step.truncated), info

    def compute_reward(
        self, achieved_goal: npt.ArrayLike, desired_goal: npt.ArrayLike, info: Any
    ) -> npt.NDArray[np.float32]:
        """Rewards of one or many pairs of goals. `[..., d]` each -> `[...]`"""
        del info
        achieved, desired = (torch.from_numpy(np.array(goal, np.float32)) for goal in (achieved_goal, desired_goal))
        rewards = self.task.goal_reward(
            achieved.reshape(-1, achieved.shape[-1]), desired.reshape(-1, desired.shape[-1])
        )
        array: npt.NDArray[np.float32] = rewards.reshape(achieved.shape[:-1]).numpy()
        return array

    def get_state(self) -> Any:
        """Where the task is, as a plain tree."""
        return map_tree(_as_array, self.task.state_dict())

    def set_state(self, state: Any) -> None:
        """Put the task back."""
        self.task.load_state_dict(map_tree(_as_tensor, state))

    def _places(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        observations = self.task.observe(self.task.state)
        return observations[ACHIEVED_GOAL][0].numpy(), observations[DESIRED_GOAL][0].numpy()


class BitFlippingEnv(GoalTaskEnv):
    """`BitFlipping` as one environment.

    Args:
        n_bits: How many bits, and actions.
        render_mode: `"rgb_array"` for pictures.
        **options: See `BitFlipping`.
    """

    def __init__(self, n_bits: int = 12, *, render_mode: str | None = None, **options: Any) -> None:
        super().__init__(BitFlipping(1, n_bits, **options), render_mode)

    def render(self) -> Picture | None:
        """The bits above, the goal below. `[height, width, 3]`"""
        return None if self.render_mode is None else picture_of_bits(*self._places())


class PointMaze2DEnv(GoalTaskEnv):
    """`PointMaze2D` as one environment.

    Args:
        render_mode: `"rgb_array"` for pictures.
        **options: See `PointMaze2D`.
    """

    task_class: ClassVar[type[PointMaze2D]] = PointMaze2D

    def __init__(self, *, render_mode: str | None = None, **options: Any) -> None:
        task = self.task_class(1, **options)
        super().__init__(task, render_mode)
        self._layout = task.layout

    def render(self) -> Picture | None:
        """The maze, the goal and the point. `[height, width, 3]`"""
        return None if self.render_mode is None else picture_of_maze(self._layout, *self._places())


class PointUMaze2DEnv(PointMaze2DEnv):
    """`PointUMaze2D` as one environment."""

    task_class = PointUMaze2D


def register() -> None:
    """Register the ids of these environments with Gymnasium; doing so twice is fine."""
    for env_id, entry_point in OWN_ENVIRONMENTS.items():
        if env_id not in gym.registry:
            gym.register(env_id, entry_point=entry_point)


def _first(batch: Tree) -> Tree:
    return map_tree(lambda leaf: leaf[0].numpy(), batch)


def _as_array(leaf: Any) -> Any:
    return leaf.numpy() if isinstance(leaf, Tensor) else leaf


def _as_tensor(leaf: Any) -> Any:
    return torch.from_numpy(np.array(leaf)) if isinstance(leaf, np.ndarray) else leaf
