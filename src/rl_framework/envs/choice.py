"""One process for all environments, or one each? Measured, because only the environment knows."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any, Literal

import gymnasium as gym
import numpy as np

from rl_framework.core.seeding import isolated_randomness
from rl_framework.envs import masks

Backend = Literal["serial", "subprocess"]

SLOW_STEP_SECONDS = 1e-3
"""A step that takes longer than this is worth the way to another process and back."""

_LOGGER = logging.getLogger(__name__)
_MAX_STEPS = 32
_MAX_SECONDS = 0.05


def choose_backend(n_envs: int, make_probe: Callable[[], gym.Env[Any, Any]], can_travel: Callable[[], bool]) -> Backend:
    """The back-end that will be faster.

    Args:
        n_envs: Number of rows.
        make_probe: Makes an environment to be measured and thrown away.
        can_travel: Whether the environments can be sent to other processes; asked only where it matters.
    """
    if n_envs == 1:
        return _chosen("serial", "there is one environment")
    try:
        seconds = measure_step(make_probe)
    except Exception as error:  # noqa: BLE001  It will be raised again, with its row, when the environment is used.
        return _chosen("serial", f"measuring a step failed ({type(error).__name__}: {error})")
    if seconds <= SLOW_STEP_SECONDS:
        return _chosen("serial", f"a step takes {1e3 * seconds:.3f} ms")
    if not can_travel():
        return _chosen("serial", f"a step takes {1e3 * seconds:.3f} ms, but the environments cannot be pickled")
    return _chosen("subprocess", f"a step takes {1e3 * seconds:.3f} ms")


def measure_step(make_probe: Callable[[], gym.Env[Any, Any]]) -> float:
    """Median duration of a step with random actions in seconds, resets not included.

    The random generators of the process are left as they were.
    """
    with isolated_randomness(0):
        env = make_probe()
        try:
            return statistics.median(_step_durations(env))
        finally:
            env.close()


def _step_durations(env: gym.Env[Any, Any]) -> list[float]:
    action_space = deepcopy(env.action_space)
    action_space.seed(0)
    durations: list[float] = []
    _, info = env.reset(seed=0)
    deadline = time.perf_counter() + _MAX_SECONDS
    while len(durations) < _MAX_STEPS and (not durations or time.perf_counter() < deadline):
        action = _random_action(env, action_space, info)
        begin = time.perf_counter()
        _, _, terminated, truncated, info = env.step(action)
        durations.append(time.perf_counter() - begin)
        if terminated or truncated:
            _, info = env.reset()
    return durations


def _random_action(env: gym.Env[Any, Any], space: gym.Space[Any], info: dict[str, Any]) -> Any:
    has_method = env.has_wrapper_attr(masks.METHOD)
    given = env.get_wrapper_attr(masks.METHOD)() if has_method else info.get(masks.INFO_KEY)
    width = masks.mask_width(space)
    if given is None or width is None:
        return space.sample()
    return space.sample(mask=_sampling_mask(space, masks.flat_mask(given, width)))


def _sampling_mask(space: gym.Space[Any], flat: Any) -> Any:
    """A flat mask in the form that the space's own `sample` wants."""
    bits = flat.astype(np.int8)
    if isinstance(space, gym.spaces.MultiDiscrete):
        return tuple(np.split(bits, np.cumsum(space.nvec.reshape(-1))[:-1]))
    if isinstance(space, gym.spaces.MultiBinary):
        pairs = bits.reshape(-1, 2)
        return np.where(pairs.all(axis=1), 2, pairs[:, 1]).astype(np.int8).reshape(space.shape)
    return bits


def _chosen(backend: Backend, reason: str) -> Backend:
    _LOGGER.info("Environments run in the %s back-end: %s.", backend, reason)
    return backend
