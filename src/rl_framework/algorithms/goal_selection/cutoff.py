"""How valuable a goal must be to count as one that can be reached: as much as the learner's successes allow."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

WINDOW = 10
"""Episodes whose successes are looked at together."""


class Cutoff:
    """The least value, in rewards of -1 per step, of a goal that is pursued.

    After 10 episodes with many successes it goes down by 1, so that goals farther away become eligible; with few it
    goes up by 1. It stays between the value of 0.8 times the length of an episode without success and where it began.

    Args:
        initial: Where it begins.
        gamma: Discount factor.
        episode_steps: Length of an episode.
        thresholds: Share of successes up to which there are few, and from which there are many.

    Attributes:
        value: The cut-off.

    Source: Pitis et al., Maximum Entropy Gain Exploration for Long Horizon Multi-goal Reinforcement Learning, 2020
    (https://arxiv.org/abs/2007.02832), appendix.
    """

    def __init__(
        self, initial: float, *, gamma: float, episode_steps: int, thresholds: tuple[float, float] = (0.3, 0.7)
    ) -> None:
        self._initial = initial
        self._thresholds = thresholds
        self._floor = value_of_steps(0.8 * episode_steps, gamma)
        self._least = self.value = max(initial, self._floor)
        self._successes: deque[bool] = deque(maxlen=WINDOW)

    def take(self, successes: Sequence[bool], lowest_value: float) -> None:
        """Take in episodes that are over.

        Args:
            successes: Whether each of them reached its goal.
            lowest_value: The least value among the goals that might be pursued next.
        """
        self._successes.extend(successes)
        if len(self._successes) < WINDOW:
            return
        self._least = max(self._floor, min(lowest_value, self._least))
        rate = sum(self._successes) / WINDOW
        few, many = self._thresholds
        if rate >= many:
            self.value = max(self._least, self.value - 1.0)
        elif rate <= few:
            self.value = max(min(self._initial, self.value + 1.0), self._floor)
        else:
            return
        self._successes.clear()

    def state_dict(self) -> dict[str, Any]:
        """Where it is, and what it has seen."""
        return {"value": self.value, "least": self._least, "successes": list(self._successes)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.value, self._least = float(state["value"]), float(state["least"])
        self._successes = deque(map(bool, state["successes"]), maxlen=WINDOW)


def value_of_steps(n_steps: float, gamma: float) -> float:
    """The value of so many steps that each cost 1, with a discount factor of at most 0.99, or of exactly 1."""
    if gamma == 1.0:
        return -n_steps
    ratio = min(gamma, 0.99)
    return -(1.0 - math.pow(ratio, n_steps)) / (1.0 - ratio)
