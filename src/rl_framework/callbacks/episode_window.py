"""The last episodes of a run, and their means."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from rl_framework.core.reports import EpisodeSummary


class EpisodeWindow:
    """Keeps the last `size` episodes and says how good they were."""

    def __init__(self, size: int = 100) -> None:
        self._episodes: deque[tuple[float, int, bool | None]] = deque(maxlen=size)

    def __len__(self) -> int:
        return len(self._episodes)

    @property
    def is_full(self) -> bool:
        """Whether as many episodes were seen as the window holds."""
        return len(self._episodes) == self._episodes.maxlen

    @property
    def mean_return(self) -> float | None:
        """Mean total reward, None before the first episode."""
        return mean_of([total for total, _, _ in self._episodes])

    @property
    def mean_length(self) -> float | None:
        """Mean number of steps, None before the first episode."""
        return mean_of([length for _, length, _ in self._episodes])

    @property
    def success_rate(self) -> float | None:
        """Share of successes among the episodes that said whether they were one, None if none did."""
        return mean_of([success for _, _, success in self._episodes if success is not None])

    def extend(self, episodes: Iterable[EpisodeSummary]) -> None:
        """Take in further episodes; the oldest ones fall out."""
        self._episodes.extend((episode.total_reward, episode.length, episode.success) for episode in episodes)

    def clear(self) -> None:
        """Forget all episodes."""
        self._episodes.clear()

    def state_dict(self) -> dict[str, Any]:
        """The episodes as a plain tree."""
        return {
            "returns": [total for total, _, _ in self._episodes],
            "lengths": [length for _, length, _ in self._episodes],
            "successes": [success for _, _, success in self._episodes],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        rows = zip(state["returns"], state["lengths"], state["successes"], strict=True)
        self._episodes.clear()
        self._episodes.extend(
            (float(total), int(length), None if success is None else bool(success)) for total, length, success in rows
        )


def mean_of(values: Sequence[float]) -> float | None:
    """The mean, None of nothing."""
    return float(sum(values) / len(values)) if values else None
