"""Goals that a replay remembers."""

from __future__ import annotations

import torch
from torch import Tensor

from rl_framework.algorithms.replay_part import ReplayPart
from rl_framework.core.goals import ACHIEVED_GOAL, DESIRED_GOAL


class GoalMemory:
    """Draws goals, flattened and as float32, from the transitions of a replay.

    Args:
        replay: Where the transitions are.
    """

    def __init__(self, replay: ReplayPart) -> None:
        self._replay = replay

    def __len__(self) -> int:
        return len(self._replay.buffer)

    def achieved(self, n: int, generator: torch.Generator) -> Tensor:
        """What was achieved after transitions. `[n, G]`"""
        return self._replay.achieved(n, generator)

    def environment_goals(self, n: int, generator: torch.Generator) -> Tensor:
        """What the environments asked for. `[n, G]`"""
        return self._draw(["environment_goals"], n, generator)[0]

    def pursued_and_achieved(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """What was pursued, and what was achieved after the same transitions. `[n, G]` each"""
        names = [f"next_observations.{DESIRED_GOAL}", f"next_observations.{ACHIEVED_GOAL}"]
        pursued, achieved = self._draw(names, n, generator)
        return pursued, achieved

    def _draw(self, names: list[str], n: int, generator: torch.Generator) -> list[Tensor]:
        buffer = self._replay.buffer
        found = buffer.read(names, buffer.uniform_rows(n, generator))
        return [found[name].reshape(n, -1).float() for name in names]
