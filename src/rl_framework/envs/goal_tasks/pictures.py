"""Pictures of tasks with goals, drawn with numpy alone."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from rl_framework.envs.goal_tasks.maze_layout import MazeLayout

Picture: TypeAlias = npt.NDArray[np.uint8]

CELL = 32
"""Pixels along a cell, or a bit."""
FLOOR, WALL, POINT, GOAL = (245, 245, 245), (40, 40, 40), (30, 90, 220), (220, 60, 40)

_FLOATS: TypeAlias = npt.NDArray[np.floating]


def picture_of_bits(bits: _FLOATS, goal: _FLOATS) -> Picture:
    """Two lines of squares, the bits above the goal; those set are dark. `[2 * CELL, n * CELL, 3]`"""
    squares = np.where(np.stack((bits, goal))[..., None] > 0.5, WALL, FLOOR).astype(np.uint8)
    picture: Picture = squares.repeat(CELL, 0).repeat(CELL, 1)
    picture[::CELL], picture[:, ::CELL] = GOAL, GOAL
    return picture


def picture_of_maze(layout: MazeLayout, place: _FLOATS, goal: _FLOATS) -> Picture:
    """The maze from above, the second coordinate upwards, with discs for the point and its goal."""
    width, height = layout.n_columns * CELL + 2, layout.n_rows * CELL + 2
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    x, y = (columns - 1) / CELL - 0.5, (rows - 1) / CELL - 0.5
    picture = np.full((height, width, 3), FLOOR, np.uint8)
    for (at_x, at_y), colour in ((goal, GOAL), (place, POINT)):
        picture[(x - at_x) ** 2 + (y - at_y) ** 2 <= 0.15**2] = colour
    _draw_walls(picture, layout)
    return np.ascontiguousarray(picture[::-1])


def _draw_walls(picture: Picture, layout: MazeLayout) -> None:
    """Lines of two pixels; the first row is the lowest."""
    for place, is_wall in enumerate(layout.upright):
        i, j = divmod(place, layout.n_rows)
        if is_wall:
            picture[j * CELL : (j + 1) * CELL + 2, i * CELL : i * CELL + 2] = WALL
    for place, is_wall in enumerate(layout.level):
        i, j = divmod(place, layout.n_rows + 1)
        if is_wall:
            picture[j * CELL : j * CELL + 2, i * CELL : (i + 1) * CELL + 2] = WALL
