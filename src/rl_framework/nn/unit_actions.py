"""Actions as control learners keep them: Box numbers with their bounds at -1 and 1, choices counted from 0."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_framework.errors import SpaceError
from rl_framework.nn.action_codecs import BoxCodec, BoxScale, DiscreteCodec


class UnitActions(nn.Module):
    """Turns the environment's actions into unit actions and back.

    Args:
        action_space: A Box with finite bounds, or a Discrete.

    Attributes:
        is_discrete: Whether actions are choices.
        width: Numbers of a unit action; of a Discrete the number of choices.

    Raises:
        SpaceError: It is neither, or has a number without bounds.
    """

    def __init__(self, action_space: gym.Space[Any]) -> None:
        super().__init__()
        self.is_discrete = isinstance(action_space, spaces.Discrete)
        self.codec: BoxCodec | DiscreteCodec
        if isinstance(action_space, spaces.Discrete):
            self.codec, self.width = DiscreteCodec(action_space), int(action_space.n)
        elif isinstance(action_space, spaces.Box):
            _check_bounds(action_space)
            self.codec, self.width = BoxCodec(action_space), int(np.prod(action_space.shape))
        else:
            raise SpaceError(
                f"Control learners act in a Box with finite bounds or a Discrete; got {action_space}. Wrap the "
                "environment to give it one."
            )

    def to_environment(self, unit: Tensor) -> Tensor:
        """Actions in the environment's units, shape and number type, within bounds. `[N, A]` or `[N]` to `[N, ...]`"""
        return self.codec.actions(unit)

    def from_environment(self, actions: Tensor) -> Tensor:
        """Unit actions: float32 `[N, A]` within [-1, 1], or int64 `[N]`. `[N, ...]`"""
        targets = self.codec.targets(actions)
        return targets if self.is_discrete else targets.clamp_(-1.0, 1.0)

    def uniform(self, n: int, generator: torch.Generator) -> Tensor:
        """Unit actions drawn evenly, on the generator's device. `[n, A]` or `[n]`"""
        if self.is_discrete:
            return torch.randint(self.width, (n,), generator=generator, device=generator.device)
        return torch.rand(n, self.width, generator=generator, device=generator.device).mul_(2.0).sub_(1.0)


def _check_bounds(space: spaces.Box) -> None:
    bounded = BoxScale.of(space).is_bounded
    if not bounded.all():
        raise SpaceError(
            f"Unit actions need finite bounds, the lower below the upper; number {int(np.argmin(bounded))} of {space} "
            "has none. Give the Box bounds (gymnasium.wrappers.RescaleAction or ClipAction)."
        )
