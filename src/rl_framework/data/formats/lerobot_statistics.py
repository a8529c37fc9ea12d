"""Minimum, maximum, mean and standard deviation of columns, in one pass over entries that come in pieces.

Source: Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances" (1979).
"""

from __future__ import annotations

from typing import Any

import numpy as np


class RunningStatistics:
    """Statistics of one column, per number of an entry; of pictures per channel, with values from 0 to 1."""

    def __init__(self, *, is_picture: bool) -> None:
        self._is_picture = is_picture
        self._count = 0
        self._entries = 0
        self._mean: Any = 0.0
        self._squares: Any = 0.0
        self._low: Any = np.inf
        self._high: Any = -np.inf

    def add(self, entries: np.ndarray) -> None:
        """Take further entries into account. `[n, ...]`"""
        self._entries += len(entries)
        values = entries.astype(np.float64)
        if self._is_picture:
            values = values.reshape(-1, values.shape[-1]) / 255
        elif values.ndim == 1:
            values = values[:, None]
        with np.errstate(all="ignore"):
            self._merge(values)

    def to_json(self) -> dict[str, Any]:
        """As `meta/stats.json` has them."""
        with np.errstate(all="ignore"):
            spread = np.sqrt(self._squares / self._count)
        parts = {"min": self._low, "max": self._high, "mean": self._mean, "std": spread}
        if self._is_picture:
            parts = {name: np.reshape(part, (-1, 1, 1)) for name, part in parts.items()}
        return {name: part.tolist() for name, part in parts.items()} | {"count": [self._entries]}

    def _merge(self, values: np.ndarray) -> None:
        count, mean = len(values), values.mean(axis=0)
        total, step = self._count + count, mean - self._mean
        squares = np.sum((values - mean) ** 2, axis=0)
        self._squares = self._squares + squares + step**2 * (self._count * count / total)
        self._mean = self._mean + step * (count / total)
        self._low, self._high = np.minimum(self._low, values.min(axis=0)), np.maximum(self._high, values.max(axis=0))
        self._count = total
