"""Opens the same environments in either back-end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from rl_framework.envs.serial import SerialVectorEnv
from rl_framework.envs.subprocess import SubprocessVectorEnv
from rl_framework.envs.vector_env import VectorEnv, VectorStep

Factory = Callable[[], gym.Env[Any, Any]]
Opener = Callable[..., VectorEnv]

BACKENDS = ("serial", "subprocess")


def open_backend(backend: str, factories: Sequence[Factory]) -> VectorEnv:
    """Environments in a back-end."""
    if backend == "serial":
        return SerialVectorEnv([factory() for factory in factories], owned=True)
    return SubprocessVectorEnv(factories, timeout=20.0)


def step(environments: VectorEnv, actions: Any) -> VectorStep:
    """Send and receive."""
    environments.send(np.asarray(actions) if isinstance(actions, list) else actions)
    return environments.recv()
