"""Every stored row with the same probability."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rl_framework.data.replay_buffer import ReplayBuffer
from rl_framework.data.sampling.selection import Selected


class UniformSelection:
    """Draws every stored row with the same probability, with replacement.

    Args:
        replay: What is drawn from.
    """

    def __init__(self, replay: ReplayBuffer) -> None:
        self._replay = replay

    def select(self, n: int, generator: torch.Generator) -> Selected:
        """Draw n rows."""
        return Selected(rows=self._replay.uniform_rows(n, generator))

    def added(self, rows: Tensor) -> None:
        """New rows are like all others."""

    def update_priorities(self, rows: Tensor, errors: Tensor) -> None:
        """Errors change nothing."""

    def state_dict(self) -> dict[str, Any]:
        """It has no state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """It has no state."""
