"""Minibatches of a policy step: some pieces of episodes, and where their steps lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rl_framework.algorithms.episode_pieces import Piece
from rl_framework.algorithms.episode_table import EpisodeTable

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PolicyBatch:
    """Some of the pieces: n steps, of which m count.

    Attributes:
        pieces: Which.
        rows: Which of the table's steps that count are theirs. `[m]`
        observations: Row of the observation before each of them among the pieces' observations. `[m]`
        chosen: Which of the n steps count; None for all. `[m]`
    """

    pieces: Sequence[Piece]
    rows: Tensor
    observations: Tensor
    chosen: Tensor | None


class PolicyBatches:
    """Puts batches together from the numbers of pieces.

    Args:
        pieces: All pieces.
        table: What the model said of them.
    """

    def __init__(self, pieces: Sequence[Piece], table: EpisodeTable) -> None:
        self.pieces = pieces
        self._device = table.log_prob.device
        bounds = np.cumsum([0, *(piece.length for piece in pieces)])
        self._starts: list[int] = bounds[:-1].tolist()
        self._steps: Indices | None = None
        self._rows = bounds
        if table.packed.groups is not None:
            self._steps = table.packed.steps.cpu().numpy()
            self._rows = np.searchsorted(self._steps, bounds)

    def of(self, numbers: Sequence[int]) -> PolicyBatch:
        """The batch of the pieces of some numbers."""
        rows, observations, chosen = [], [], []
        first_step = 0
        for at, number in enumerate(numbers):
            own = np.arange(self._rows[number], self._rows[number + 1])
            steps = own - self._starts[number] if self._steps is None else self._steps[own] - self._starts[number]
            rows.append(own)
            chosen.append(steps + first_step)
            observations.append(steps + (first_step + at))
            first_step += self.pieces[number].length
        return PolicyBatch(
            pieces=[self.pieces[number] for number in numbers],
            rows=self._indices(rows),
            observations=self._indices(observations),
            chosen=None if self._steps is None else self._indices(chosen),
        )

    def _indices(self, parts: Sequence[Indices]) -> Tensor:
        return torch.from_numpy(np.concatenate(parts)).to(self._device)
