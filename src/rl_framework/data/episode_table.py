"""Summaries of episodes as columns: thousands may end within one horizon, and hardly anybody looks at each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

from rl_framework.core.reports import EpisodeSummary


class EpisodeTable(Sequence[EpisodeSummary]):
    """A sequence of `EpisodeSummary` that makes each of them when it is asked for.

    Args:
        rows: The environment that played each episode. `[N]`
        total_rewards: Sum of its rewards. `[N]`
        lengths: Number of its steps. `[N]`
        successes: Whether it was one, None where the environment does not say. `[N]`

    Attributes:
        rows: `[N]`
        total_rewards: `[N]`
        lengths: `[N]`
        successes: `[N]`, or None.
    """

    __slots__ = ("lengths", "rows", "successes", "total_rewards")

    def __init__(
        self,
        rows: npt.NDArray[np.int64],
        total_rewards: npt.NDArray[np.float64],
        lengths: npt.NDArray[np.int64],
        successes: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        self.rows = rows
        self.total_rewards = total_rewards
        self.lengths = lengths
        self.successes = successes

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> EpisodeSummary: ...

    @overload
    def __getitem__(self, index: slice) -> EpisodeTable: ...

    def __getitem__(self, index: int | slice) -> EpisodeSummary | EpisodeTable:
        row, total_reward, length = self.rows[index], self.total_rewards[index], self.lengths[index]
        success = None if self.successes is None else self.successes[index]
        if isinstance(index, slice):
            return EpisodeTable(row, total_reward, length, success)
        return EpisodeSummary(
            row=int(row),
            total_reward=float(total_reward),
            length=int(length),
            success=None if success is None else bool(success),
        )

    def __repr__(self) -> str:
        return f"EpisodeTable({list(self)!r})"
