"""A network that follows another one slowly: what learners take the values of next states from."""

from __future__ import annotations

import copy
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from rl_framework.nn.control_features import ControlFeatures
from rl_framework.nn.flat_parameters import flat_values

Network = TypeVar("Network", bound=nn.Module)


class TargetNetwork(nn.Module, Generic[Network]):
    """A copy of a network that no gradient changes; statistics of observations stay those of the original.

    Args:
        source: The network that it follows; its parameters come to lie in one piece of memory.

    Attributes:
        network: The copy; this module hands calls on to it.
    """

    network: Network

    def __init__(self, source: Network) -> None:
        super().__init__()
        shared = {id(module): module for module in source.modules() if isinstance(module, ControlFeatures)}
        self.network = copy.deepcopy(source, memo=dict(shared)).requires_grad_(False)
        self._pairs = tuple(zip(self.network.parameters(), source.parameters(), strict=True))
        self._own, self._source = self._flat()

    def forward(self, *arguments: Any) -> Any:
        """What the copy says."""
        return self.network(*arguments)

    @torch.no_grad()
    def update(self, share: float) -> None:
        """Move so much of the way to the source: 0.005 slowly, 1 all at once."""
        own, source = self._pairs[0]
        if own.data_ptr() != self._own.data_ptr() or source.data_ptr() != self._source.data_ptr():
            self._own, self._source = self._flat()
        self._own.lerp_(self._source, share)

    def _flat(self) -> tuple[Tensor, Tensor]:
        """Buffers of the copy's parameters and of the source's, wherever they are now. `[n]` each"""
        own, source = zip(*self._pairs, strict=True)
        return flat_values(own), flat_values(source)
