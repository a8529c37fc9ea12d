"""Parts of a learner as they were when all was well, to go back to when an update spoils them."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from rl_framework.algorithms.parts import Part, Parts
from rl_framework.algorithms.replay_part import ReplayPart


class GoodParts:
    """A copy of what all parts but the replay remember.

    Args:
        parts: The parts.
        updates: Number of updates so far.

    Attributes:
        updates: As given.
    """

    def __init__(self, parts: Parts, updates: int) -> None:
        self.updates = updates
        self._parts: list[Part] = [part for name in parts if not isinstance(part := parts[name], ReplayPart)]
        self._states = [deepcopy(part.state_dict()) for part in self._parts]

    def put_back(self) -> None:
        """Make them what they were."""
        for part, state in zip(self._parts, self._states, strict=True):
            part.load_state_dict(state)


def is_finite(state: Mapping[str, Any]) -> bool:
    """Whether there is neither NaN nor infinity in any tensor of a state; the host waits for the device, once."""
    found = [tensor.isfinite().all() for tensor in _numbers(state)]
    return not found or bool(torch.stack(found).all())


def _numbers(state: Any) -> list[Tensor]:
    if isinstance(state, Mapping):
        return [tensor for part in state.values() for tensor in _numbers(part)]
    if isinstance(state, list | tuple):
        return [tensor for part in state for tensor in _numbers(part)]
    return [state] if isinstance(state, Tensor) and state.is_floating_point() else []
