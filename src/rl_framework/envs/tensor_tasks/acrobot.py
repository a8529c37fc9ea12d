"""Acrobot: two links that hang from a joint; swing the free end up with a motor between them.

Source: Sutton, Generalization in reinforcement learning: successful examples using sparse coarse coding, 1996; the
dynamics are those of Sutton and Barto's book, all masses, lengths and moments of inertia 1, integrated by the
classical fourth-order Runge-Kutta method.
"""

from __future__ import annotations

from math import pi

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from typing_extensions import override

from rl_framework.envs.tensor_env import Device
from rl_framework.envs.tensor_tasks.bounded_start import BoundedStart

GRAVITY = 9.8
TIME_STEP = 0.2
FASTEST = (4 * pi, 9 * pi)
CENTRE = 0.5

_STEPS_V1 = 500


class Acrobot(BoundedStart):
    """Gymnasium's Acrobot-v1; its state is the two angles and their velocities, all 0 when hanging. `[B, 4]`

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
        high = np.array([1.0, 1.0, 1.0, 1.0, *FASTEST], dtype=np.float32)
        super().__init__(
            n_envs,
            spaces.Box(-high, high, dtype=np.float32),
            spaces.Discrete(3),
            low=-0.1,
            high=0.1,
            max_episode_steps=max_episode_steps,
            device=device,
            dtype=dtype,
            env_id="Acrobot-v1" if max_episode_steps == _STEPS_V1 else None,
            render_fps=15.0,
        )

    @override
    def initial_state(self, n_rows: int) -> Tensor:
        return self.draw_start(n_rows, 4)

    @override
    def advance(self, state: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        columns = self._runge_kutta(state.t(), self.choose(self.constant(-1.0, 0.0, 1.0), actions))
        angles, turn = columns[:2], self.constant(2 * pi)
        angles.sub_(torch.round(angles / turn).mul_(turn))
        for speed, fastest in zip(columns[2:].unbind(0), FASTEST, strict=True):
            speed.clamp_(-fastest, fastest)
        upper, lower = angles.unbind(0)
        depth = (upper + lower).cos_().add_(upper.cos())
        reached = depth < self.constant(-1.0)
        return columns.t(), torch.where(reached, self.constant(0.0), self.constant(-1.0)), reached

    @override
    def observe(self, state: Tensor) -> Tensor:
        angles = state[:, :2]
        cosines, sines = angles.cos(), angles.sin()
        parts = (cosines[:, 0], sines[:, 0], cosines[:, 1], sines[:, 1], state[:, 2], state[:, 3])
        return torch.stack(parts, 1).to(torch.float32)

    def _runge_kutta(self, state: Tensor, torque: Tensor) -> Tensor:
        """The state one step later under a constant torque. `[4, B]`"""
        first = self._rates(state, torque)
        second = self._rates(torch.add(state, first, alpha=TIME_STEP / 2), torque)
        third = self._rates(torch.add(state, second, alpha=TIME_STEP / 2), torque)
        fourth = self._rates(torch.add(state, third, alpha=TIME_STEP), torque)
        total = first.add_(second, alpha=2.0).add_(third, alpha=2.0).add_(fourth)
        return torch.add(state, total, alpha=TIME_STEP / 6)

    def _rates(self, state: Tensor, torque: Tensor) -> Tensor:
        """How fast angles and velocities change. `[4, B]`

        With c the distance of a centre of mass and all other constants 1, the mass matrix has the entries
        d1 = 3.5 + 2 c cos b, d2 = 1.25 + c cos b and 1.25, for the angle b between the links.
        """
        upper, lower, upper_speed, lower_speed = state.unbind(0)
        own = self.constant(1.0 + CENTRE**2)
        sine = lower.sin()
        d2 = torch.add(own, lower.cos(), alpha=CENTRE)
        d1 = torch.add(self.constant(1.0), d2, alpha=2.0)
        pull_lower = (upper + lower).sin_().mul_(self.constant(CENTRE * GRAVITY))
        coupling = torch.add(lower_speed, upper_speed, alpha=2.0).mul_(lower_speed)
        pull_upper = torch.add(pull_lower, upper.sin(), alpha=(1.0 + CENTRE) * GRAVITY)
        pull_upper.addcmul_(sine, coupling, value=-CENTRE)
        ratio = d2 / d1
        drive = torch.addcmul(torque - pull_lower, ratio, pull_upper)
        drive.addcmul_(upper_speed * upper_speed, sine, value=-CENTRE)
        lower_rate = drive.div_(torch.addcmul(own, ratio, d2, value=-1.0))
        upper_rate = torch.addcmul(pull_upper, d2, lower_rate).div_(d1).neg_()
        return torch.stack((upper_speed, lower_speed, upper_rate, lower_rate))
