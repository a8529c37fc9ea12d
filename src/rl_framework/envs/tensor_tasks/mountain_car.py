"""Mountain car: drive out of a valley with a motor that is too weak to do it without swinging.

Source: Moore, Efficient memory-based learning for robot control, 1990.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from typing_extensions import override

from rl_framework.envs.tensor_env import Device
from rl_framework.envs.tensor_tasks.bounded_start import BoundedStart

LEFT_WALL = -1.2
RIGHT_WALL = 0.6
FASTEST = 0.07
GRAVITY = 0.0025

_STEPS_DISCRETE_V0 = 200
_STEPS_CONTINUOUS_V0 = 999


class _Valley(BoundedStart):
    """What both cars share: the valley, in which the state is position and velocity. `[B, 2]`"""

    def __init__(
        self,
        n_envs: int,
        action_space: gym.Space[Any],
        *,
        max_episode_steps: int | None,
        device: Device,
        dtype: torch.dtype,
        env_id: str | None,
    ) -> None:
        low, high = (np.array(bound, dtype=np.float32) for bound in ((LEFT_WALL, -FASTEST), (RIGHT_WALL, FASTEST)))
        super().__init__(
            n_envs,
            spaces.Box(low, high, dtype=np.float32),
            action_space,
            low=-0.6,
            high=-0.4,
            max_episode_steps=max_episode_steps,
            device=device,
            dtype=dtype,
            env_id=env_id,
        )

    @override
    def initial_state(self, n_rows: int) -> Tensor:
        position = self.draw_start(n_rows, 1).t()
        return torch.cat((position, torch.zeros_like(position))).t()

    @override
    def observe(self, state: Tensor) -> Tensor:
        return self.as_observations(state)

    def drive(self, state: Tensor, force: Tensor, goal: float) -> tuple[Tensor, Tensor]:
        """The next state under a force of the motor `[B]`, and which cars reached the goal with a speed of at least 0.

        The wall on the left stops a car; the one on the right lies beyond the goal.
        """
        position, speed = state.unbind(1)
        slope = (position * self.constant(3.0)).cos_()
        speed = torch.add(speed + force, slope, alpha=-GRAVITY).clamp_(-FASTEST, FASTEST)
        position = (position + speed).clamp_(LEFT_WALL, RIGHT_WALL)
        backwards, still = speed < self.constant(0.0), self.constant(0.0)
        speed = torch.where((position <= self.constant(LEFT_WALL)).logical_and_(backwards), still, speed)
        reached = (position >= self.constant(goal)).logical_and_(speed >= still)
        return torch.stack((position, speed)).t(), reached


class MountainCar(_Valley):
    """Gymnasium's MountainCar-v0: push to the left, not at all, or to the right.

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
        max_episode_steps: int | None = _STEPS_DISCRETE_V0,
        device: Device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(
            n_envs,
            spaces.Discrete(3),
            max_episode_steps=max_episode_steps,
            device=device,
            dtype=dtype,
            env_id="MountainCar-v0" if max_episode_steps == _STEPS_DISCRETE_V0 else None,
        )

    @override
    def advance(self, state: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        state, reached = self.drive(state, self.choose(self.constant(-0.001, 0.0, 0.001), actions), goal=0.5)
        return state, torch.full_like(reached, -1.0, dtype=self.dtype), reached


class MountainCarContinuous(_Valley):
    """Gymnasium's MountainCarContinuous-v0: choose the force, which costs its square; the goal is worth 100.

    Gymnasium keeps this state in float32, whatever its actions are.

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
        max_episode_steps: int | None = _STEPS_CONTINUOUS_V0,
        device: Device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(
            n_envs,
            spaces.Box(-1.0, 1.0, (1,), np.float32),
            max_episode_steps=max_episode_steps,
            device=device,
            dtype=dtype,
            env_id="MountainCarContinuous-v0" if max_episode_steps == _STEPS_CONTINUOUS_V0 else None,
        )

    @override
    def advance(self, state: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        wanted = actions[:, 0].to(self.dtype)
        state, reached = self.drive(state, wanted.clamp(-1.0, 1.0).mul_(self.constant(0.0015)), goal=0.45)
        rewards = (reached * self.constant(100.0)).addcmul_(wanted, wanted, value=-0.1)
        return state, rewards, reached
