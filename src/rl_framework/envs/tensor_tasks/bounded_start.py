"""Tasks whose episodes begin between two bounds, under the names that Gymnasium gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from torch import Tensor
from typing_extensions import override

from rl_framework.envs.tensor_task import SimulatedTask
from rl_framework.errors import InvalidInputError


class BoundedStart(SimulatedTask):
    """A task with the settings `low` and `high`, between which it draws where its episodes begin.

    Args:
        n_envs: Number of rows, B.
        observation_space: Space of one observation.
        action_space: Space of one action.
        low: The lower bound.
        high: The upper bound.
        **options: See `SimulatedTask`.
    """

    def __init__(
        self,
        n_envs: int,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        *,
        low: float,
        high: float,
        **options: Any,
    ) -> None:
        super().__init__(n_envs, observation_space, action_space, settings={"low": low, "high": high}, **options)

    @override
    def configure(self, options: Mapping[str, Any]) -> None:
        """Change `low` or `high`.

        Raises:
            UnknownOptionError: There is no setting of that name.
            InvalidInputError: The value is no finite number, or `low` would lie above `high`.
        """
        before = {name: float(value) for name, value in self.settings.items()}
        super().configure(options)
        low, high = float(self.settings["low"]), float(self.settings["high"])
        if low > high:
            super().configure(before)
            raise InvalidInputError(f"Expected the option 'low' to be at most 'high', got {low:g} and {high:g}.")

    def draw_start(self, n_rows: int, n_columns: int) -> Tensor:
        """Numbers between the bounds. `[n_rows, n_columns]`"""
        return self.draw_uniform(n_rows, n_columns, self.settings["low"], self.settings["high"])
