"""Drive to the origin: a position on a line, whose distance from 0 is the cost. What rlstack times itself on.

Under the names of its successor rl8: `DiscreteDummyEnv` and `ContinuousDummyEnv`. An episode begins anywhere between
`-bounds` and `bounds`, and there are no endings; rlstack resets all rows together after a horizon, which is a time
limit of as many steps here.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from typing_extensions import override

from rl_framework.envs.tensor_env import Device
from rl_framework.envs.tensor_task import SimulatedTask
from rl_framework.errors import InvalidInputError

HORIZON = 32
BOUNDS = 100.0


class _DriveToOrigin(SimulatedTask):
    """What both share: the state is the observation, and the reward is minus the distance after the move. `[B, 1]`"""

    def __init__(
        self,
        n_envs: int,
        action_space: gym.Space[Any],
        *,
        max_episode_steps: int | None,
        device: Device,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(
            n_envs,
            spaces.Box(-inf, inf, (1,), np.float32),
            action_space,
            settings={"bounds": BOUNDS},
            max_episode_steps=max_episode_steps,
            device=device,
            dtype=dtype,
        )

    @override
    def configure(self, options: Mapping[str, Any]) -> None:
        """Change `bounds`.

        Raises:
            UnknownOptionError: There is no setting of that name.
            InvalidInputError: The value is no finite number, or negative.
        """
        bounds = options.get("bounds", BOUNDS)
        if isinstance(bounds, (int, float)) and bounds < 0:
            raise InvalidInputError(f"Expected the option 'bounds' to be at least 0, got {bounds}.")
        super().configure(options)

    @override
    def initial_state(self, n_rows: int) -> Tensor:
        return self.draw_uniform(n_rows, 1, -self.settings["bounds"], self.settings["bounds"])

    @override
    def advance(self, state: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, None]:
        state = state + self.move(actions)
        return state, state[:, 0].abs().neg_(), None

    @override
    def observe(self, state: Tensor) -> Tensor:
        return self.as_observations(state)

    def move(self, actions: Tensor) -> Tensor:
        """How far actions go. `[B, 1]`"""
        return actions.to(self.dtype)


class DiscreteDummyEnv(_DriveToOrigin):
    """One step to the left or to the right.

    Args:
        n_envs: Number of rows, B.
        max_episode_steps: Steps after which all rows are truncated together; never for None.
        device: Where all tensors are.
        dtype: Type of the state's numbers; observations are float32.
    """

    def __init__(
        self,
        n_envs: int,
        *,
        max_episode_steps: int | None = HORIZON,
        device: Device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(n_envs, spaces.Discrete(2), max_episode_steps=max_episode_steps, device=device, dtype=dtype)

    @override
    def move(self, actions: Tensor) -> Tensor:
        """-1 or +1. `[B, 1]`"""
        return self.choose(self.constant(-1.0, 1.0), actions).unsqueeze(1)


class ContinuousDummyEnv(_DriveToOrigin):
    """As far as one likes.

    Args:
        n_envs: Number of rows, B.
        max_episode_steps: Steps after which all rows are truncated together; never for None.
        device: Where all tensors are.
        dtype: Type of the state's numbers; observations are float32.
    """

    def __init__(
        self,
        n_envs: int,
        *,
        max_episode_steps: int | None = HORIZON,
        device: Device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        action_space = spaces.Box(-inf, inf, (1,), np.float32)
        super().__init__(n_envs, action_space, max_episode_steps=max_episode_steps, device=device, dtype=dtype)
