"""Pendulum: swing a pendulum up with a motor that is too weak to lift it, and hold it there."""

from __future__ import annotations

from collections.abc import Mapping
from math import pi
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from typing_extensions import override

from rl_framework.envs.tensor_env import Device
from rl_framework.envs.tensor_task import SimulatedTask
from rl_framework.errors import InvalidInputError

GRAVITY = 10.0
FASTEST = 8.0
STRONGEST = 2.0
TIME_STEP = 0.05

_STEPS_V1 = 200


class Pendulum(SimulatedTask):
    """Gymnasium's Pendulum-v1; its state is the angle, 0 when upright, and the angular velocity. `[B, 2]`

    Its settings are Gymnasium's: an episode begins with an angle up to `x_init` and a velocity up to `y_init` either
    way.

    Args:
        n_envs: Number of rows, B.
        max_episode_steps: Steps after which an episode is truncated; no limit for None.
        device: Where all tensors are.
        dtype: Type of the state's numbers; observations are float32.
    """

    def __init__(
        self,
        n_envs: int,
        *,
        max_episode_steps: int | None = _STEPS_V1,
        device: Device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        high = np.array([1.0, 1.0, FASTEST], dtype=np.float32)
        super().__init__(
            n_envs,
            spaces.Box(-high, high, dtype=np.float32),
            spaces.Box(-STRONGEST, STRONGEST, (1,), np.float32),
            settings={"x_init": pi, "y_init": 1.0},
            max_episode_steps=max_episode_steps,
            device=device,
            dtype=dtype,
            env_id="Pendulum-v1" if max_episode_steps == _STEPS_V1 else None,
        )

    @override
    def configure(self, options: Mapping[str, Any]) -> None:
        """Change `x_init` or `y_init`.

        Raises:
            UnknownOptionError: There is no setting of that name.
            InvalidInputError: The value is no finite number, or negative.
        """
        negative = [name for name, value in options.items() if isinstance(value, (int, float)) and value < 0]
        if negative:
            raise InvalidInputError(
                f"Expected the option {negative[0]!r} to be at least 0, got {options[negative[0]]}."
            )
        super().configure(options)

    @override
    def initial_state(self, n_rows: int) -> Tensor:
        reach = torch.stack((self.settings["x_init"], self.settings["y_init"])).unsqueeze(1)
        return self.draw_uniform(n_rows, 2, -reach, reach)

    @override
    def advance(self, state: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, None]:
        angle, speed = state.unbind(1)
        torque = actions[:, 0].to(self.dtype).clamp(-STRONGEST, STRONGEST)
        turn = self.constant(2 * pi)
        off_upright = angle - torch.round(angle / turn).mul_(turn)
        cost = off_upright.square_().addcmul_(speed, speed, value=0.1).addcmul_(torque, torque, value=0.001)
        speed = torch.add(speed, angle.sin(), alpha=1.5 * GRAVITY * TIME_STEP).add_(torque, alpha=3.0 * TIME_STEP)
        speed.clamp_(-FASTEST, FASTEST)
        return torch.stack((torch.add(angle, speed, alpha=TIME_STEP), speed)).t(), cost.neg_(), None

    @override
    def observe(self, state: Tensor) -> Tensor:
        angle, speed = state.unbind(1)
        return torch.stack((angle.cos(), angle.sin(), speed), 1).to(torch.float32)
