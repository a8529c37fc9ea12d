"""The weight of the divergence, which adapts until the divergence is about what it should be."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rl_framework.algorithms.vtrace_awr_config import VTraceAWRConfig
from rl_framework.functional.episode_losses import next_kl_coefficient


class KLController:
    """Raises the weight while the divergence is above its target and lowers it while it is below.

    Args:
        config: Target, first weight, bounds and speed.
        device: Where the divergence is told.

    Attributes:
        coefficient: The weight now. `[]`
    """

    def __init__(self, config: VTraceAWRConfig, device: torch.device) -> None:
        self._config = config
        first = min(max(config.kl_coefficient, config.min_kl_coefficient), config.max_kl_coefficient)
        self.coefficient = torch.tensor(first, dtype=torch.float64, device=device)

    def observe(self, divergence: Tensor) -> None:
        """Take notice of a mean divergence per step. `[]`"""
        config = self._config
        self.coefficient = next_kl_coefficient(
            self.coefficient,
            divergence.double(),
            target=config.kl_target,
            rate=config.kl_adaptation,
            low=config.min_kl_coefficient,
            high=config.max_kl_coefficient,
        )

    def state_dict(self) -> dict[str, Any]:
        """The weight."""
        return {"coefficient": self.coefficient}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.coefficient = state["coefficient"].to(self.coefficient.device)
