"""Where a MuJoCo simulation is: the arrays of its `MjData`, and of its `MjModel` where they may change."""

from __future__ import annotations

import sys
from typing import Any

import gymnasium as gym
import numpy as np

HANDLES = frozenset({"model", "data"})
_CONSTANT = ("mesh_", "tex_", "hfield_", "skin_", "bvh_", "oct_", "name", "text_", "path", "flex", "key_")


def is_mujoco(env: gym.Env[Any, Any]) -> bool:
    """Whether the innermost environment holds a MuJoCo simulation as `model` and `data`."""
    mujoco = sys.modules.get("mujoco")
    inner = vars(getattr(env, "unwrapped", env))
    return mujoco is not None and isinstance(inner.get("data"), mujoco.MjData)


def nested(env: gym.Env[Any, Any]) -> list[gym.Env[Any, Any]]:
    """Environments that the innermost one keeps as attributes, with simulations: the robots in the mazes."""
    if "mujoco" not in sys.modules:
        return []
    parts = vars(env.unwrapped).values()
    return [part for part in parts if isinstance(part, gym.Env) and is_mujoco(part)]


def capture(env: gym.Env[Any, Any]) -> dict[str, Any]:
    """Copies of all arrays of the simulation that have a fixed place, and its time."""
    inner: Any = env.unwrapped
    unused = sys.modules["mujoco"].MjData(inner.model)
    data = {name: value for name, value in _arrays(inner.data).items() if getattr(unused, name).size}
    model = {name: value for name, value in _arrays(inner.model).items() if not name.startswith(_CONSTANT)}
    return {"data": data, "model": model, "time": float(inner.data.time)}


def restore(env: gym.Env[Any, Any], tree: dict[str, Any]) -> None:
    """Write the arrays back.

    Contacts and constraints live in memory that MuJoCo lays out itself: it is made to find them again, and then
    everything that has a fixed place is overwritten with what it was.
    """
    mujoco = sys.modules["mujoco"]
    inner: Any = env.unwrapped
    _write(inner.model, tree["model"])
    _write(inner.data, tree["data"])
    mujoco.mj_forward(inner.model, inner.data)
    _write(inner.data, tree["data"])
    inner.data.time = tree["time"]


def _arrays(holder: Any) -> dict[str, Any]:
    values = {name: getattr(holder, name) for name in dir(holder) if not name.startswith("_")}
    return {name: value.copy() for name, value in values.items() if isinstance(value, np.ndarray)}


def _write(holder: Any, arrays: dict[str, Any]) -> None:
    for name, value in arrays.items():
        target = getattr(holder, name)
        if target.flags.writeable:
            target[...] = value
