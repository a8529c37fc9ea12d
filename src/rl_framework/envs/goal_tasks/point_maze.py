"""A point in a maze: where it may go is easy, how far the goal is away nobody tells.

Source: PointMaze of Trott et al., Keeping your distance: solving sparse reward tasks using self-balancing shaped
rewards, 2019 (https://arxiv.org/abs/1911.01417), as Pitis et al. use it in Maximum entropy gain exploration for long
horizon multi-goal reinforcement learning, 2020 (https://arxiv.org/abs/2007.02832).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from typing_extensions import override

from rl_framework.envs.goal_rewards import DistanceReward
from rl_framework.envs.goal_tasks.goal_task import GoalTask
from rl_framework.envs.goal_tasks.maze_layout import TREE_10X10, U_5X3, MazeLayout
from rl_framework.envs.tensor_env import Device

LONGEST_MOVE = 0.95
RADIUS = 0.15
LEAST_REPULSION = 0.001
MOST_REPULSION = 0.01
START_SPREAD = 0.45
GOAL_SPREAD = 0.4

_N_STEPS = 50
_ENV_IDS = {TREE_10X10: "rl_framework/PointMaze2D-v0", U_5X3: "rl_framework/PointUMaze2D-v0"}
_NEVER = 2.0
"""A share of a move that is never reached."""


class PointMaze2D(GoalTask):
    """A point that is moved by at most 0.95 along each axis; the reward is 0 within 0.15 of the goal, -1 elsewhere.

    A wall stops the part of a move that crosses it and throws the point back a little, by a random distance of at
    most 0.01; the other part goes on. Episodes begin anywhere in the start cell that is 0.05 from its border, goals
    are anywhere in the goal cell that is 0.1 from its border.

    Args:
        n_envs: Number of rows, B.
        layout: The maze, drawn; see `MazeLayout.parse`.
        max_episode_steps: Steps after which an episode is truncated.
        first_visit: Whether an episode ends, as a terminated one, as soon as the goal is achieved.
        device: Where all tensors are.
        dtype: Type of the state's numbers; observations are float32.
    """

    def __init__(
        self,
        n_envs: int,
        layout: str = TREE_10X10,
        *,
        max_episode_steps: int = _N_STEPS,
        first_visit: bool = False,
        device: Device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.layout = MazeLayout.parse(layout)
        is_registered = (max_episode_steps, first_visit) == (_N_STEPS, False)
        border = np.array([self.layout.n_columns, self.layout.n_rows], np.float32) - 0.5
        super().__init__(
            n_envs,
            spaces.Box(np.full(2, -0.5, np.float32), border, dtype=np.float32),
            spaces.Box(-LONGEST_MOVE, LONGEST_MOVE, (2,), np.float32),
            goal_reward=DistanceReward(RADIUS),
            first_visit=first_visit,
            max_episode_steps=max_episode_steps,
            device=device,
            dtype=dtype,
            env_id=_ENV_IDS.get(layout) if is_registered else None,
        )

    @override
    def initial_state(self, n_rows: int) -> dict[str, Tensor]:
        return {
            "place": self._draw_in(self.layout.start, START_SPREAD, n_rows),
            "goal": self._draw_in(self.layout.goal, GOAL_SPREAD, n_rows),
        }

    @override
    def advance(
        self, state: Mapping[str, Tensor], actions: Tensor
    ) -> tuple[Mapping[str, Tensor], Tensor, Tensor | None]:
        move = actions.to(self.dtype).clamp(-LONGEST_MOVE, LONGEST_MOVE)
        low, high = self.constant(LEAST_REPULSION), self.constant(MOST_REPULSION)
        repulsion = self.draw_uniform(len(move), 2, low, high)
        place = self.move(state["place"], move, repulsion)
        return self.judge({"place": place, "goal": state["goal"]})

    def move(self, place: Tensor, move: Tensor, repulsion: Tensor) -> Tensor:
        """Where points arrive; a move that is shorter than a cell meets at most one wall along each axis.

        Args:
            place: Where they are. `[B, 2]`
            move: How they want to move. `[B, 2]`
            repulsion: How far the first and the second wall throw them back. `[B, 2]`
        """
        place, left = self._until_wall(place, move, repulsion[:, :1])
        return self._until_wall(place, left, repulsion[:, 1:])[0]

    def _until_wall(self, place: Tensor, move: Tensor, repulsion: Tensor) -> tuple[Tensor, Tensor]:
        """Go until the first wall or to the end of a move that crosses at most one border of a cell along each axis.

        Args:
            place: Where the points are. `[B, 2]`
            move: How they want to move. `[B, 2]`
            repulsion: How far a wall throws them back. `[B, 1]`

        Returns:
            Where they are then, and what is left of the move: the part along the wall. `[B, 2]` each
        """
        cell, direction = place.round(), move.sign()
        reaches = ((place + move - cell) * direction).ge(0.5)
        shares = torch.where(reaches, (cell + 0.5 * direction - place) / move, _NEVER)
        shares = torch.where(self._is_wall(place + shares.flip(1) * move, cell, direction), shares, _NEVER)
        first = torch.cat((shares[:, :1] <= shares[:, 1:], shares[:, :1] > shares[:, 1:]), 1)
        share = shares.amin(1, keepdim=True)
        hits, share = share < _NEVER, share.clamp(max=1.0)
        place = place + move * share - direction * repulsion * (first & hits)
        return place, move * (1.0 - share) * ~first

    def _is_wall(self, at: Tensor, cell: Tensor, direction: Tensor) -> Tensor:
        """Whether the border ahead along each axis is a wall, at the height at which the point arrives there.

        Args:
            at: The second coordinate on arrival at the border along the first axis, and the other way round. `[B, 2]`
            cell: The cells that the points are in. `[B, 2]`
            direction: -1, 0 or 1. `[B, 2]`
        """
        n_columns, n_rows = self.layout.n_columns, self.layout.n_rows
        column, row = (cell + direction.clamp(min=0.0)).long().unbind(1)
        across = at.round().long()
        upright = self.constant(*self.layout.upright).take(column * n_rows + across[:, 1].clamp(0, n_rows - 1))
        level = self.constant(*self.layout.level).take(across[:, 0].clamp(0, n_columns - 1) * (n_rows + 1) + row)
        return torch.stack((upright, level), 1) > 0.5

    def _draw_in(self, cell: tuple[int, int], spread: float, n_rows: int) -> Tensor:
        centre = self.constant(*map(float, cell)).unsqueeze(1)
        return self.draw_uniform(n_rows, 2, centre - spread, centre + spread).contiguous()


class PointUMaze2D(PointMaze2D):
    """The same in a small maze like a U, for quick comparisons.

    Args:
        n_envs: Number of rows, B.
        **options: See `PointMaze2D`.
    """

    def __init__(self, n_envs: int, **options: Any) -> None:
        super().__init__(n_envs, U_5X3, **options)
