"""Rows about which the learner was most wrong come most often."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rl_framework.data.replay_buffer import ReplayBuffer
from rl_framework.data.sampling.selection import Selected
from rl_framework.data.sampling.sum_tree import SumTree
from rl_framework.errors import InvalidInputError


class PrioritizedSelection:
    """Draws rows in proportion to `(|error| + epsilon) ** alpha`, one from each of n equal parts of the whole.

    New rows have the largest priority there has been, so that each is soon learned from. The weights
    `(1 / p) ** beta`, divided by their largest in the batch, undo the bias, in full once beta is 1.

    Source: Schaul et al., Prioritized Experience Replay (2016), algorithm 1.

    Args:
        replay: What is drawn from; what it holds already has the largest priority.
        alpha: How much priorities count; 0 draws evenly.
        beta: How much of the bias is undone at first.
        beta_steps: Number of batches after which all of it is, in a straight line from the first to the last.
        epsilon: What keeps rows without an error from vanishing.

    Raises:
        InvalidInputError: A setting is out of range.
    """

    def __init__(
        self,
        replay: ReplayBuffer,
        *,
        alpha: float = 0.6,
        beta: float = 0.4,
        beta_steps: int = 100_000,
        epsilon: float = 1e-6,
    ) -> None:
        _check(alpha=alpha, beta=beta, beta_steps=beta_steps, epsilon=epsilon)
        self._replay = replay
        self._alpha, self._beta, self._beta_steps, self._epsilon = alpha, beta, beta_steps, epsilon
        self._tree = SumTree(replay.capacity, replay.device)
        self._largest = torch.ones((), dtype=torch.float64, device=replay.device)
        self._batches = torch.zeros((), dtype=torch.int64, device=replay.device)
        if len(replay) > 0:
            self.added(torch.arange(len(replay), device=replay.device))

    @property
    def priorities(self) -> Tensor:
        """Those of all rows, 0 where none is stored. `[capacity]`, float64"""
        return self._tree.priorities

    @property
    def beta(self) -> Tensor:
        """How much of the bias the weights of the next batch undo."""
        return (self._beta + (1.0 - self._beta) * self._batches / self._beta_steps).clamp(max=1.0)

    def select(self, n: int, generator: torch.Generator) -> Selected:
        """Draw n rows, with weights."""
        if len(self._replay) == 0:
            raise InvalidInputError("There is nothing to draw from: the replay is empty. Add transitions first.")
        parts = torch.arange(n, dtype=torch.float64, device=self._replay.device)
        within = torch.rand(n, dtype=torch.float64, device=self._replay.device, generator=generator)
        rows = self._tree.find((parts + within) / n * self._tree.total)
        priorities = self._tree[rows]
        weights = (priorities.min() / priorities) ** self.beta
        self._batches += 1
        return Selected(rows=rows, weights=weights.float())

    def added(self, rows: Tensor) -> None:
        """Give new rows the largest priority there has been."""
        self._tree.set(rows, self._largest.expand(len(rows)))

    def update_priorities(self, rows: Tensor, errors: Tensor) -> None:
        """Give rows the priorities that belong to their errors; of a row drawn twice, the larger error counts."""
        priorities = (errors.detach().double().abs() + self._epsilon) ** self._alpha
        self._largest.copy_(torch.maximum(self._largest, priorities.max()))
        self._tree.set(rows, priorities)

    def state_dict(self) -> dict[str, Any]:
        """Priorities and counters."""
        return {
            "priorities": self._tree.priorities.clone(),
            "largest": self._largest.clone(),
            "batches": self._batches.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave.

        Raises:
            InvalidInputError: It is that of a replay with another capacity.
        """
        self._tree.load(state["priorities"])
        self._largest.copy_(state["largest"])
        self._batches.copy_(state["batches"])


def _check(*, alpha: float, beta: float, beta_steps: int, epsilon: float) -> None:
    wrong = [f"alpha={alpha} (0 or more)"] * (not alpha >= 0.0)
    wrong += [f"beta={beta} (from 0 to 1)"] * (not 0.0 <= beta <= 1.0)
    wrong += [f"beta_steps={beta_steps} (1 or more)"] * (not beta_steps >= 1)
    wrong += [f"epsilon={epsilon} (more than 0)"] * (not epsilon > 0.0)
    if wrong:
        raise InvalidInputError(f"Settings of a prioritised replay out of range: {', '.join(wrong)}.")
