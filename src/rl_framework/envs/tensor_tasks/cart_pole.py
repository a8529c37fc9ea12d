"""CartPole: balance a pole on a cart by pushing the cart to the left or to the right.

Source: Barto, Sutton and Anderson, Neuronlike adaptive elements that can solve difficult learning control problems,
1983; equations of motion after Florian, Correct equations for the dynamics of the cart-pole system, 2005.
"""

from __future__ import annotations

from math import inf, radians

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from typing_extensions import override

from rl_framework.envs.tensor_env import Device
from rl_framework.envs.tensor_tasks.bounded_start import BoundedStart

GRAVITY = 9.8
POLE_MASS = 0.1
TOTAL_MASS = 1.1
HALF_LENGTH = 0.5
PUSH = 10.0
TIME_STEP = 0.02
FARTHEST = 2.4
STEEPEST = radians(12)

_POLE_MASS_SHARE = POLE_MASS / TOTAL_MASS
_POLE_SHARE = _POLE_MASS_SHARE * HALF_LENGTH
_PUSH_SHARE = PUSH / TOTAL_MASS
_STEPS_V1 = 500


class CartPole(BoundedStart):
    """Gymnasium's CartPole-v1; its state is position, velocity, angle and angular velocity. `[B, 4]`

    Args:
        n_envs: Number of rows, B.
        max_episode_steps: Steps after which an episode is truncated; no limit for None.
        mask_velocities: Whether the two velocities are left out of the observation, so that a policy needs memory.
        device: Where all tensors are.
        dtype: Type of the state's numbers; observations are float32.
    """

    def __init__(
        self,
        n_envs: int,
        *,
        max_episode_steps: int | None = _STEPS_V1,
        mask_velocities: bool = False,
        device: Device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        high = np.array([2 * FARTHEST, inf, 2 * STEEPEST, inf], dtype=np.float32)[:: 2 if mask_velocities else 1]
        super().__init__(
            n_envs,
            spaces.Box(-high, high, dtype=np.float32),
            spaces.Discrete(2),
            low=-0.05,
            high=0.05,
            max_episode_steps=max_episode_steps,
            device=device,
            dtype=dtype,
            env_id="CartPole-v1" if max_episode_steps == _STEPS_V1 and not mask_velocities else None,
            render_fps=50.0,
        )
        self.mask_velocities = mask_velocities

    @override
    def initial_state(self, n_rows: int) -> Tensor:
        return self.draw_start(n_rows, 4)

    @override
    def advance(self, state: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        _, velocity, angle, spin = state.unbind(1)
        sine, cosine = angle.sin(), angle.cos()
        push = self.choose(self.constant(-_PUSH_SHARE, _PUSH_SHARE), actions)
        thrust = torch.addcmul(push, spin * spin, sine, value=_POLE_SHARE)
        inertia = torch.addcmul(
            self.constant(HALF_LENGTH * 4 / 3), cosine, cosine, value=-HALF_LENGTH * _POLE_MASS_SHARE
        )
        turn = torch.addcmul(sine * self.constant(GRAVITY), cosine, thrust, value=-1.0).div_(inertia)
        speed_up = torch.addcmul(thrust, turn, cosine, value=-_POLE_SHARE)
        rates = torch.stack((velocity, speed_up, spin, turn))
        state = torch.add(state, rates.t(), alpha=TIME_STEP)
        gone, fallen = (state.t()[::2].abs() > self.constant(FARTHEST, STEEPEST).unsqueeze(1)).unbind(0)
        return state, torch.ones_like(push), gone | fallen

    @override
    def observe(self, state: Tensor) -> Tensor:
        return self.as_observations(state[:, ::2] if self.mask_velocities else state)
