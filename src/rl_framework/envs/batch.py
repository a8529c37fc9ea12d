"""Where rows put what they observed: arrays `[B, ...]`, in this process or shared between processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from rl_framework.core.policy import BoolArray
from rl_framework.core.spaces import allocate, leaf_shape, leaf_spaces, map_space
from rl_framework.core.trees import Path, Tree, leaves, leaves_with_paths, map_tree, path_name, select
from rl_framework.errors import InvalidInputError, SpaceError

Space = gym.Space[Any]

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.float16))


@dataclass(slots=True)
class StepBatch:
    """The arrays that one step fills, row by row.

    Attributes:
        observations: `[B, ...]` per leaf
        rewards: `[B]`
        terminated: `[B]`
        truncated: `[B]`
    """

    observations: Tree
    rewards: npt.NDArray[np.float64]
    terminated: BoolArray
    truncated: BoolArray

    @classmethod
    def allocate(cls, observation_space: Space, count: int) -> StepBatch:
        """Zeroed arrays for `count` rows."""
        return cls(
            allocate(observation_space, count), np.zeros(count), np.zeros(count, np.bool_), np.zeros(count, np.bool_)
        )

    def empty_like(self) -> StepBatch:
        """Fresh arrays of the same shapes; only the rewards and flags are zeroed."""
        count = len(self.rewards)
        observations = self.observations
        fresh = (
            np.empty_like(observations) if type(observations) is np.ndarray else map_tree(np.empty_like, observations)
        )
        return StepBatch(fresh, np.zeros(count), np.zeros(count, np.bool_), np.zeros(count, np.bool_))


class ObservationWriter(Protocol):
    """Puts one observation into its row of a batch."""

    def write(self, batch: Tree, row: int, observation: Tree) -> None:
        """Write `observation` into `batch[row]`.

        Raises:
            SpaceError: Its structure or a shape is not that of the space; nothing is broadcast.
        """
        ...


class LeafWriter:
    """The writer of a space without parts."""

    def __init__(self, space: Space, name: str) -> None:
        self._shape = leaf_shape(space)
        self._name = name

    def write(self, batch: Tree, row: int, observation: Tree) -> None:
        """Write one array or number; see `ObservationWriter`."""
        if type(observation) is not np.ndarray:
            observation = np.asarray(observation)
        if observation.shape != self._shape:
            raise SpaceError(
                f"the observation's {self._name!r} has shape {observation.shape}, its space has {self._shape}."
            )
        batch[row] = observation


class NestWriter:
    """The writer of a Dict or Tuple space."""

    def __init__(self, parts: dict[Any, ObservationWriter]) -> None:
        self._parts = parts

    def write(self, batch: Tree, row: int, observation: Tree) -> None:
        """Write part by part; see `ObservationWriter`."""
        if not isinstance(observation, (dict, tuple, list)) or len(observation) != len(self._parts):
            raise SpaceError(f"the observation is {_outline(observation)}, its space has {list(self._parts)}.")
        for key, writer in self._parts.items():
            try:
                part = observation[key]
            except (KeyError, IndexError, TypeError) as error:
                raise SpaceError(f"the observation is {_outline(observation)}; {key!r} is missing.") from error
            writer.write(batch[key], row, part)


def observation_writer(space: Space, name: str = "value") -> ObservationWriter:
    """The writer for observations of a space."""
    if isinstance(space, gym.spaces.Dict):
        return NestWriter({key: observation_writer(part, f"{name}.{key}") for key, part in space.spaces.items()})
    if isinstance(space, gym.spaces.Tuple):
        return NestWriter({key: observation_writer(part, f"{name}.{key}") for key, part in enumerate(space.spaces)})
    return LeafWriter(space, name)


def check_first_observation(space: Space, observation: Tree) -> None:
    """Refuse an observation whose values cannot be written into arrays of the space without being altered.

    Raises:
        SpaceError: Fractions or numbers out of range for an integer space.
    """
    values = dict(leaves_with_paths(observation))
    for path, leaf in leaf_spaces(space):
        if path not in values or np.issubdtype(leaf.dtype, np.floating):
            continue
        value = np.asarray(values[path])
        if not np.array_equal(value.astype(leaf.dtype), value):
            raise SpaceError(
                f"the observation's {path_name(path)!r} is {value.dtype} and does not fit the space's {leaf.dtype}."
            )
        if isinstance(leaf, gym.spaces.Discrete) and not leaf.contains(np.int64(value)):
            raise SpaceError(f"the observation's {path_name(path)!r} is {value}, which is not in {leaf}.")


class ActionReader:
    """Checks a batch of actions once and hands it out row by row.

    Args:
        space: Space of one action.
        count: Number of rows, B.
    """

    def __init__(self, space: Space, count: int) -> None:
        self._count = count
        self._leaves = [
            (path_name(path), (count, *leaf_shape(leaf)), np.dtype(leaf.dtype)) for path, leaf in leaf_spaces(space)
        ]
        self._structure = map_space(lambda leaf: leaf.dtype, space)
        self._is_nest = isinstance(self._structure, (dict, tuple))

    def read(self, actions: Tree) -> Tree:
        """The actions as fresh arrays of the space's types. `[B, ...]`

        Raises:
            InvalidInputError: Wrong structure, shape or kind of number; the message names the part.
        """
        if not self._is_nest:
            return self._read_leaf(actions, *self._leaves[0])
        try:
            parts = leaves(map_tree(lambda _, part: part, self._structure, actions))
        except (TypeError, KeyError, IndexError, ValueError) as error:
            raise InvalidInputError(
                f"Expected actions with the parts {[name for name, _, _ in self._leaves]}, got {_outline(actions)}."
            ) from error
        arrays = iter([self._read_leaf(part, *leaf) for part, leaf in zip(parts, self._leaves, strict=True)])
        return map_tree(lambda _: next(arrays), self._structure)

    def rows(self, actions: Tree) -> Sequence[Tree]:
        """One action per row."""
        return [select(actions, row) for row in range(self._count)] if self._is_nest else actions

    def _read_leaf(self, actions: Any, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        given = np.asarray(actions)
        if given.shape != shape:
            raise InvalidInputError(f"Expected actions of shape {shape} for {name!r}, got {given.shape}.")
        if given.dtype != dtype and not _means_the_same(given, dtype):
            raise InvalidInputError(f"Expected actions of type {dtype} for {name!r}, got {given.dtype}.")
        return np.array(given, dtype=dtype)


def find_invalid_number(observations: Tree) -> tuple[int, str] | None:
    """The first row with a NaN or an infinite number, and where it stands; None if all is well."""
    if type(observations) is np.ndarray:
        return _find_in_leaf((), observations)
    for path, leaf in leaves_with_paths(observations):
        found = _find_in_leaf(path, leaf)
        if found is not None:
            return found
    return None


def _find_in_leaf(path: Path, leaf: npt.NDArray[Any]) -> tuple[int, str] | None:
    if leaf.dtype not in _FLOATS:
        return None
    # A NaN or an infinite number anywhere makes the sum of squares one, too: the cheap question comes first.
    if isfinite(np.vdot(leaf, leaf)) or np.isfinite(leaf).all():
        return None
    place = tuple(int(index) for index in np.argwhere(~np.isfinite(leaf))[0])
    return place[0], f"the observation's {path_name(path)!r} contains {leaf[place]}"


def _means_the_same(given: npt.NDArray[Any], dtype: np.dtype[Any]) -> bool:
    """Whether another type of number holds the same values: always among floats, where they fit among integers."""
    if dtype.kind == "f":
        return bool(np.can_cast(given.dtype, dtype, "same_kind"))
    return bool(np.array_equal(given.astype(dtype), given))


def _outline(value: Any) -> str:
    if isinstance(value, dict):
        return f"a dict with {list(value)}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"
