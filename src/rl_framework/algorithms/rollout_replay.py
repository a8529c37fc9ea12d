"""Rollouts that are kept to be learned from again."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import torch

from rl_framework.data.rollout import Position, Rollout

_LEFT_OUT = ("next", "episodes", "stream", "first_step")
_COLUMNS = tuple(name for name in Rollout.__dataclass_fields__ if name not in _LEFT_OUT)
_OF_POSITION = ("observations", "state", "starts", "episode_returns", "episode_lengths")


class RolloutReplay:
    """The latest rollouts, each with the log-probabilities of the policy that acted.

    Args:
        capacity: How many are kept; the oldest goes first.
    """

    def __init__(self, capacity: int) -> None:
        self._rollouts: deque[Rollout] = deque(maxlen=capacity)

    def __len__(self) -> int:
        """Number of rollouts."""
        return len(self._rollouts)

    def add(self, rollout: Rollout) -> None:
        """Keep a rollout, which nobody writes into any more."""
        self._rollouts.append(rollout.detach())

    def draw(self, count: int, generator: torch.Generator) -> list[Rollout]:
        """Different rollouts, each as likely as any other; all of them, if there are no more than `count`."""
        order = torch.randperm(len(self._rollouts), generator=generator, device=generator.device)
        return [self._rollouts[index] for index in order[:count].tolist()]

    def state_dict(self) -> dict[str, Any]:
        """All rollouts as plain trees."""
        return {"rollouts": [_to_plain(rollout) for rollout in self._rollouts]}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Take back what `state_dict` gave; the latest, if there is no room for all."""
        self._rollouts.clear()
        self._rollouts.extend(_from_plain(plain).to(device) for plain in state["rollouts"])


def _to_plain(rollout: Rollout) -> dict[str, Any]:
    """Columns, and where sampling stood afterwards, which is needed to value what followed the last step."""
    columns = {name: getattr(rollout, name) for name in _COLUMNS}
    after = rollout.next
    position = None if after is None else {name: getattr(after, name) for name in _OF_POSITION}
    return {**columns, "extras": dict(rollout.extras), "next": position}


def _from_plain(plain: Mapping[str, Any]) -> Rollout:
    position = plain["next"]
    return Rollout(**{**plain, "next": None if position is None else Position(**position)})
