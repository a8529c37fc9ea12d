"""Weights that are known to be good, to go back to when an update spoils them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GoodWeights:
    """A copy of a model and its optimiser from before an update.

    Args:
        model: Whose parameters and buffers are copied.
        optimizer: Whose state is copied.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self._model = model
        self._optimizer = optimizer
        self._known = set(optimizer.state)
        originals = [tensor.detach() for tensor in self._tensors()]
        self._copies = [torch.empty_like(tensor) for tensor in originals]
        torch._foreach_copy_(self._copies, originals)

    @torch.no_grad()
    def put_back(self) -> None:
        """Undo the update."""
        for parameter in set(self._optimizer.state) - self._known:
            del self._optimizer.state[parameter]
        for tensor, good in zip(self._tensors(), self._copies, strict=True):
            tensor.copy_(good)

    def _tensors(self) -> list[Tensor]:
        own = [*self._model.parameters(), *self._model.buffers()]
        states = self._optimizer.state.values()
        return [*own, *(value for state in states for value in state.values() if isinstance(value, Tensor))]
