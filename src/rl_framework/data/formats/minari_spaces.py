"""Spaces in the JSON that Minari writes down.

Source: `minari.serialization` of Minari 0.5.4.
"""

from __future__ import annotations

import json
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rl_framework.core.trees import Tree
from rl_framework.data.episode_layout import ArrayType
from rl_framework.errors import SpaceError

READ_ERRORS = (KeyError, TypeError, ValueError, AssertionError, AttributeError, RecursionError)
PICTURE_SIDE = 32


def space_to_minari(space: gym.Space[Any]) -> dict[str, Any]:
    """A space as JSON.

    Raises:
        SpaceError: It is of a kind that is not supported.
    """
    match space:
        case spaces.Dict():
            return {"type": "Dict", "subspaces": {key: space_to_minari(part) for key, part in space.spaces.items()}}
        case spaces.Tuple():
            return {"type": "Tuple", "subspaces": [space_to_minari(part) for part in space.spaces]}
        case spaces.Box():
            bounds = {"low": space.low.tolist(), "high": space.high.tolist()}
            return {"type": "Box", "dtype": str(space.dtype), "shape": list(space.shape), **bounds}
        case spaces.Discrete():
            return {"type": "Discrete", "dtype": "int64", "start": int(space.start), "n": int(space.n)}
        case spaces.MultiDiscrete():
            numbers = {"nvec": space.nvec.tolist(), "start": space.start.tolist()}
            return {"type": "MultiDiscrete", "dtype": str(space.dtype), **numbers}
        case spaces.MultiBinary():
            return {"type": "MultiBinary", "n": space.n if isinstance(space.n, int) else list(space.shape)}
    raise SpaceError(f"{space} cannot be written into a Minari data set.")


def space_from_minari(text: Any, where: str) -> gym.Space[Any]:
    """The space that a data set's metadata describe.

    Raises:
        SpaceError: It is damaged, or of a kind that is not supported.
    """
    try:
        return _read(json.loads(text))
    except READ_ERRORS as error:
        raise SpaceError(f"{where} does not describe a space that this library reads: {str(text)[:200]}") from error


def guessed_space(types: Tree) -> gym.Space[Any]:
    """The widest space that holds arrays of these types: Minari has no data sets without spaces."""
    if isinstance(types, dict):
        return spaces.Dict({key: guessed_space(part) for key, part in types.items()})
    if isinstance(types, tuple):
        return spaces.Tuple([guessed_space(part) for part in types])
    return _widest(types)


def is_picture(space: gym.Space[Any]) -> bool:
    """Whether Minari takes values of a leaf space for pictures, which it may store as JPEG."""
    return (
        isinstance(space, spaces.Box)
        and len(space.shape) in (2, 3)
        and min(space.shape[:2]) >= PICTURE_SIDE
        and space.dtype == np.uint8
        and bool(np.all(space.low == 0) and np.all(space.high == 255))
    )


def _widest(found: ArrayType) -> spaces.Box:
    kind: Any = found.dtype.newbyteorder("=").type
    if found.dtype.kind == "f":
        return spaces.Box(-np.inf, np.inf, found.shape, kind)
    if found.dtype.kind == "b":
        return spaces.Box(np.zeros(found.shape, kind), np.ones(found.shape, kind), found.shape, kind)
    limits = np.iinfo(kind)
    return spaces.Box(np.full(found.shape, limits.min, kind), np.full(found.shape, limits.max, kind), found.shape, kind)


def _read(node: dict[str, Any]) -> gym.Space[Any]:
    match node["type"]:
        case "Dict":
            return spaces.Dict({key: _read(part) for key, part in node["subspaces"].items()})
        case "Tuple":
            return spaces.Tuple([_read(part) for part in node["subspaces"]])
        case "Box":
            low, high = (np.array(node[key], node["dtype"]) for key in ("low", "high"))
            return spaces.Box(low, high, tuple(node["shape"]), np.dtype(node["dtype"]).type)
        case "Discrete":
            return spaces.Discrete(node["n"], start=node.get("start", 0))
        case "MultiDiscrete":
            start = node.get("start")
            kind: Any = np.dtype(node.get("dtype", "int64")).type
            return spaces.MultiDiscrete(np.array(node["nvec"]), kind, start=None if start is None else np.array(start))
        case "MultiBinary":
            return spaces.MultiBinary(node["n"])
        case other:
            raise ValueError(other)
