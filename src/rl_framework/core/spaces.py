"""Spaces as data: which are supported, their JSON form, how two differ, arrays that hold their values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rl_framework.core.trees import Path, Tree, leaves_with_paths, map_tree, path_name
from rl_framework.errors import SpaceError

LEAF_SPACES = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def map_space(function: Callable[[gym.Space[Any]], Any], space: gym.Space[Any]) -> Tree:
    """A tree of the space's structure with `function(leaf space)` at its leaves."""
    if isinstance(space, spaces.Dict):
        return {key: map_space(function, part) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(map_space(function, part) for part in space.spaces)
    return function(space)


def leaf_spaces(space: gym.Space[Any]) -> Iterator[tuple[Path, gym.Space[Any]]]:
    """Each leaf space with the keys and indices that lead to it."""
    return leaves_with_paths(map_space(lambda leaf: leaf, space))


def check_supported(space: gym.Space[Any], role: str) -> None:
    """Refuse spaces whose values are not arrays of a fixed shape.

    Args:
        space: The space to check.
        role: What it is, for the message: `"observation"` or `"action"`.

    Raises:
        SpaceError: A leaf is neither Box, Discrete, MultiDiscrete nor MultiBinary.
    """
    for path, leaf in leaf_spaces(space):
        if not isinstance(leaf, LEAF_SPACES):
            raise SpaceError(
                f"The {role} space has a {type(leaf).__name__} at {path_name(path)!r}. Supported are Box, Discrete, "
                "MultiDiscrete and MultiBinary, and Dict and Tuple nests of them. Wrap the environment to flatten it."
            )


def allocate(space: gym.Space[Any], count: int) -> Tree:
    """Zeroed arrays for `count` values of the space. `[count, ...]` per leaf."""
    return map_space(lambda leaf: np.zeros((count, *leaf_shape(leaf)), dtype=leaf.dtype), space)


def leaf_shape(leaf: gym.Space[Any]) -> tuple[int, ...]:
    """Shape of one value of a leaf space; `()` for Discrete."""
    if leaf.shape is None:
        raise SpaceError(f"{leaf!r} has no fixed shape.")
    return leaf.shape


def is_batch(space: gym.Space[Any], value: Tree) -> bool:
    """Whether `value` is a batch of values of the space rather than a single one.

    Raises:
        SpaceError: It is neither; the message names the leaf with its given and expected shape.
    """
    try:
        ranks = map_tree(_rank_beyond, map_space(lambda leaf: leaf, space), value)
    except (TypeError, KeyError, IndexError, ValueError) as error:
        raise SpaceError(f"Expected a value of {space}, or a batch of such values, got {_outline(value)}.") from error
    beyond = {rank for _, rank in leaves_with_paths(ranks)}
    if beyond == {0}:
        return False
    if beyond == {1}:
        return True
    raise SpaceError(f"Expected a value of {space}, or a batch of such values, got {_outline(value)}.")


def _rank_beyond(leaf: gym.Space[Any], value: Any) -> int:
    shape, expected = np.shape(value), leaf_shape(leaf)
    extra = len(shape) - len(expected)
    if extra < 0 or shape[extra:] != expected:
        return -1
    return extra


def _outline(value: Tree) -> str:
    parts = (f"{path_name(path)}: shape {np.shape(leaf)}" for path, leaf in leaves_with_paths(value))
    return "{" + ", ".join(parts) + "}"


def difference(expected: gym.Space[Any], given: gym.Space[Any]) -> str | None:
    """The first way in which two spaces differ, in words; None if they are equal."""
    ours, theirs = dict(leaf_spaces(expected)), dict(leaf_spaces(given))
    for path, leaf in ours.items():
        if path not in theirs:
            return f"{path_name(path)!r} is missing"
        if leaf != theirs[path]:
            return f"{path_name(path)!r} is {theirs[path]}, expected {leaf}"
    extra = [path for path in theirs if path not in ours]
    if extra:
        return f"{path_name(extra[0])!r} is not expected"
    return None if expected == given else f"{given}, expected {expected}"


def check_equal(expected: gym.Space[Any], given: gym.Space[Any], *, role: str, who: str) -> None:
    """Refuse a space that differs from the expected one.

    Args:
        expected: The space that the others, or the agent, have.
        given: The space to check.
        role: `"observation"` or `"action"`.
        who: Whose space it is, for the message, e.g. `"environment 3"`.

    Raises:
        SpaceError: They differ; the message names the field.
    """
    found = difference(expected, given)
    if found is not None:
        raise SpaceError(f"The {role} space of {who} does not fit: {found}.")


def space_to_json(space: gym.Space[Any]) -> dict[str, Any]:
    """A JSON value from which `space_from_json` makes an equal space.

    Raises:
        SpaceError: The space is not supported.
    """
    match space:
        case spaces.Dict():
            return {"type": "Dict", "spaces": [[key, space_to_json(part)] for key, part in space.spaces.items()]}
        case spaces.Tuple():
            return {"type": "Tuple", "spaces": [space_to_json(part) for part in space.spaces]}
        case spaces.Box():
            return {
                "type": "Box",
                "shape": list(space.shape),
                "dtype": np.dtype(space.dtype).name,
                "low": _compress(space.low),
                "high": _compress(space.high),
            }
        case spaces.Discrete():
            return {
                "type": "Discrete",
                "n": int(space.n),
                "start": int(space.start),
                "dtype": np.dtype(space.dtype).name,
            }
        case spaces.MultiDiscrete():
            return {
                "type": "MultiDiscrete",
                "nvec": space.nvec.tolist(),
                "start": space.start.tolist(),
                "dtype": np.dtype(space.dtype).name,
            }
        case spaces.MultiBinary():
            return {"type": "MultiBinary", "n": space.n if isinstance(space.n, int) else list(space.shape)}
    check_supported(space, "given")
    raise SpaceError(f"{space!r} cannot be written down.")


def space_from_json(data: dict[str, Any]) -> gym.Space[Any]:
    """The space that `space_to_json` wrote.

    Raises:
        SpaceError: The JSON value does not describe a space.
    """
    try:
        return _read_space(data)
    except (KeyError, TypeError, ValueError, AssertionError, AttributeError) as error:
        raise SpaceError(f"Not the description of a space: {str(data)[:200]}") from error


def _read_space(data: dict[str, Any]) -> gym.Space[Any]:
    match data["type"]:
        case "Dict":
            return spaces.Dict({key: _read_space(part) for key, part in data["spaces"]})
        case "Tuple":
            return spaces.Tuple([_read_space(part) for part in data["spaces"]])
        case "Box":
            shape, dtype = tuple(data["shape"]), np.dtype(data["dtype"])
            low, high = (_expand(data[key], shape, dtype) for key in ("low", "high"))
            return spaces.Box(low=low, high=high, shape=shape, dtype=dtype.type)
        case "Discrete":
            return spaces.Discrete(data["n"], start=data["start"], dtype=np.dtype(data["dtype"]).type)
        case "MultiDiscrete":
            return spaces.MultiDiscrete(
                np.array(data["nvec"]), dtype=np.dtype(data["dtype"]).type, start=np.array(data["start"])
            )
        case "MultiBinary":
            return spaces.MultiBinary(data["n"])
        case other:
            raise ValueError(other)


def _compress(bound: np.ndarray) -> Any:
    """A bound as one number where it is the same everywhere, else as nested lists."""
    values = bound.reshape(-1)
    if len(values) and (values == values[0]).all():
        return values[0].item()
    return bound.tolist()


def _expand(bound: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    full: np.ndarray = np.array(np.broadcast_to(np.asarray(bound, dtype=dtype), shape))
    return full
