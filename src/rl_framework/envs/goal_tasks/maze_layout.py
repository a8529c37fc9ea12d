"""Mazes of unit cells, drawn as text."""

from __future__ import annotations

from dataclasses import dataclass

from rl_framework.errors import InvalidInputError

Cell = tuple[int, int]

TREE_10X10 = """\
+-+-+-+-+-+-+-+-+-+-+
|   |     | |   |  G|
+ + + +-+ + + + +-+ +
| | |   | |   |     |
+ + +-+ +-+ +-+-+-+ +
| | | |   |   |     |
+ + + +-+ + +-+-+-+ +
| | |     | | |   | |
+ + +-+ +-+ + + +-+ +
| |         |     | |
+ +-+-+-+ +-+ +-+-+ +
| |               | |
+-+-+ + + + +-+-+ +-+
|     | | | | | | | |
+ +-+-+ +-+ + + + + +
|     | |   |   |   |
+ + +-+ + +-+-+ +-+ +
| |   | |   |   | | |
+-+ +-+-+ +-+ +-+ + +
|S      |     |     |
+-+-+-+-+-+-+-+-+-+-+
"""
"""A spanning tree of 10 x 10 cells: one way from corner to corner, 22 cells long, and many dead ends."""

U_5X3 = """\
+-+-+-+-+-+
|G        |
+-+-+-+-+ +
|       | |
+-+-+-+-+ +
|S        |
+-+-+-+-+-+
"""
"""Along, up and back again: 10 cells of way for 2 of distance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MazeLayout:
    """Cells whose centres have whole numbers as coordinates, and the walls between them.

    Attributes:
        n_columns: Cells along the first axis, W.
        n_rows: Cells along the second axis, H.
        upright: Whether there is a wall at x = i - 0.5 beside the cells of row j, for i in 0..W, at `i * H + j`.
        level: Whether there is a wall at y = j - 0.5 below the cell of column i, for j in 0..H, at `i * (H + 1) + j`.
        start: The cell in which episodes begin.
        goal: The cell in which goals are.
    """

    n_columns: int
    n_rows: int
    upright: tuple[bool, ...]
    level: tuple[bool, ...]
    start: Cell
    goal: Cell

    @classmethod
    def parse(cls, text: str) -> MazeLayout:
        """Read a drawing: `|` and `-` are walls, `+` the corners of the cells, S and G start and goal.

        The last line is the lowest row; the cell at the bottom left has the coordinates (0, 0).

        Raises:
            InvalidInputError: Not 2 H + 1 lines of 2 W + 1 characters, an open border, not one S and one G.
        """
        lines = text.strip("\n").split("\n")
        width, height = max(map(len, lines)), len(lines)
        if width % 2 == 0 or height % 2 == 0 or width < 3 or height < 3:
            raise InvalidInputError(
                f"Expected a maze of 2 H + 1 lines of 2 W + 1 characters, got {height} lines of up to {width}."
            )
        drawing = [line.ljust(width) for line in reversed(lines)]
        if " " in drawing[0] + drawing[-1] or any(line[0] + line[-1] != "||" for line in drawing[1::2]):
            raise InvalidInputError("Expected walls all around the maze, got a drawing with an open border.")
        n_columns, n_rows = width // 2, height // 2
        return cls(
            n_columns=n_columns,
            n_rows=n_rows,
            upright=tuple(drawing[2 * j + 1][2 * i] == "|" for i in range(n_columns + 1) for j in range(n_rows)),
            level=tuple(drawing[2 * j][2 * i + 1] == "-" for i in range(n_columns) for j in range(n_rows + 1)),
            start=_find(drawing, "S"),
            goal=_find(drawing, "G"),
        )

    def neighbours(self, cell: Cell) -> list[Cell]:
        """Cells that one can walk to without crossing a wall."""
        i, j = cell
        beside, below = i * self.n_rows + j, i * (self.n_rows + 1) + j
        ways = {
            (i - 1, j): self.upright[beside],
            (i + 1, j): self.upright[beside + self.n_rows],
            (i, j - 1): self.level[below],
            (i, j + 1): self.level[below + 1],
        }
        return [
            (x, y)
            for (x, y), is_closed in ways.items()
            if not is_closed and 0 <= x < self.n_columns and 0 <= y < self.n_rows
        ]


def _find(drawing: list[str], letter: str) -> Cell:
    found = [(line.index(letter) // 2, row // 2) for row, line in enumerate(drawing) if letter in line]
    if len(found) != 1:
        raise InvalidInputError(f"Expected one cell of the maze to be marked {letter!r}, found {len(found)}.")
    return found[0]
