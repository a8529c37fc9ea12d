"""Knowing the best weights so far, and when there will hardly be better ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

Weights = dict[str, Tensor]


class EarlyStopping:
    """Keeps the weights of the lowest validation loss, and counts validations without a lower one.

    Args:
        patience: Validations without improvement after which it is enough; None for never.
        min_improvement: A loss counts as lower if it is so by more than this.

    Attributes:
        best_loss: The lowest loss so far, None before the first.
        waited: Validations since then.
    """

    def __init__(self, patience: int | None, min_improvement: float = 0.0) -> None:
        self.patience = patience
        self.min_improvement = min_improvement
        self.best_loss: float | None = None
        self.waited = 0
        self._weights: Weights | None = None

    @property
    def is_enough(self) -> bool:
        """Whether patience has run out."""
        return self.patience is not None and self.waited >= self.patience

    @property
    def best_weights(self) -> Weights | None:
        """The weights of the lowest loss, None before the first."""
        return self._weights

    def observe(self, loss: float, network: nn.Module) -> None:
        """Take in a validation."""
        if self.best_loss is None or loss < self.best_loss - self.min_improvement:
            self.best_loss, self.waited, self._weights = loss, 0, copy_weights(network)
        else:
            self.waited += 1

    def state_dict(self) -> dict[str, Any]:
        """What the next validation is compared with."""
        return {"best_loss": self.best_loss, "waited": self.waited, "weights": self._weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.best_loss, self.waited, self._weights = state["best_loss"], int(state["waited"]), state["weights"]


@torch.no_grad()
def copy_weights(network: nn.Module) -> Weights:
    """Copies of a network's weights by name."""
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
