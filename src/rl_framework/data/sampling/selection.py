"""Which stored rows are learned from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Selected:
    """Rows of a replay.

    Attributes:
        rows: `[N]`, int64
        weights: Corrections for their not being drawn evenly, at most 1; None where all count the same. `[N]`, float32
    """

    rows: Tensor
    weights: Tensor | None = None


class Selection(Protocol):
    """Draws rows of a replay, with replacement."""

    def select(self, n: int, generator: torch.Generator) -> Selected:
        """Draw rows.

        Args:
            n: How many.
            generator: What is drawn comes from it; of the replay's device.

        Raises:
            InvalidInputError: Nothing is stored.
        """
        ...

    def added(self, rows: Tensor) -> None:
        """Take note of rows that were just stored, perhaps over others. `[B]`"""
        ...

    def update_priorities(self, rows: Tensor, errors: Tensor) -> None:
        """Take note of how wrong the learner was about rows.

        Args:
            rows: As they were selected. `[N]`
            errors: Temporal-difference errors, of either sign. `[N]`
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything beside the replay that its next call depends on, as a plain tree."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave, in place."""
        ...
