"""In what form an environment is given its actions."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from rl_framework.envs.serial import SerialVectorEnv


class Noting(gym.Env[Any, Any]):
    """Notes what it is given."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, action_space: gym.Space[Any]) -> None:
        self.action_space = action_space
        self.given: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.given = action
        return np.zeros(1, np.float32), 0.0, False, False, {}


@pytest.mark.parametrize(
    ("space", "kind"),
    [
        (spaces.Discrete(3), int),
        (spaces.Discrete(3, start=5), int),
        (spaces.MultiDiscrete([2, 3]), np.ndarray),
        (spaces.Box(-1.0, 1.0, (2,), np.float32), np.ndarray),
    ],
    ids=str,
)
def test_choices_are_python_numbers_and_all_else_arrays(space: gym.Space[Any], kind: type) -> None:
    inner = Noting(space)
    environments = SerialVectorEnv([inner], owned=True)
    environments.reset(0)
    chosen = np.array([space.sample()])
    environments.send(chosen)
    environments.recv()
    assert type(inner.given) is kind
    assert np.all(chosen[0] == inner.given)
    assert space.contains(inner.given)
