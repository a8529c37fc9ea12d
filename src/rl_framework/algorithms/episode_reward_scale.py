"""Brings the rewards of whole episodes to a size that values are learned from well."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rl_framework.algorithms.processes import Processes
from rl_framework.functional.episode_losses import moments

FEWEST = 2


class EpisodeRewardScale:
    """Divides rewards by the root mean square of all raw rewards so far.

    Until there are two, and while all are 0, they stay as they are. The root mean square is what the standard
    deviation is for rewards of mean 0, and does not vanish where all are equal.

    Args:
        device: Where processes meet.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._known = torch.zeros(3, dtype=torch.float64)
        self._added = torch.zeros(3, dtype=torch.float64)

    def add(self, rewards: Tensor) -> None:
        """Take in raw rewards. `[T]`"""
        self._added += moments(rewards.cpu())

    def gather(self, processes: Processes) -> None:
        """Bring together what all processes have added since the last time."""
        self._known += processes.sum(self._added.to(self._device)).cpu()
        self._added.zero_()

    @property
    def size(self) -> float:
        """What rewards are divided by: for all processes the same between two calls of `gather`."""
        count, _, squares = self._known.tolist()
        return float((squares / count) ** 0.5) if count >= FEWEST and squares > 0.0 else 1.0

    def state_dict(self) -> dict[str, Any]:
        """Counts and sums: those of all processes, and this one's since the last call of `gather`."""
        return {"known": self._known.clone(), "added": self._added.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._known, self._added = state["known"].clone(), state["added"].clone()
