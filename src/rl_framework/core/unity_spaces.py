"""What Unity's agents see and do, as spaces: for games that are played and for recordings of them.

Unity describes an observation by one shape per sensor: of rank 1 (numbers), 2 (a buffer of rows, padded with zeros)
or 3 (a picture), and an action by a count of continuous numbers and the sizes of discrete branches; an agent may have
both. Sources: `observation.proto` and `brain_parameters.proto` of ML-Agents.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from rl_framework.core.policy import BoolArray
from rl_framework.core.trees import Tree
from rl_framework.errors import InvalidInputError, SpaceError, UnknownOptionError

Array = npt.NDArray[Any]
Layout = Literal["chw", "hwc"]
PictureType = Literal["uint8", "float32"]
HybridForm = Literal["dict", "box"]

LAYOUTS = ("chw", "hwc")
PICTURE_TYPES = ("uint8", "float32")
HYBRID_FORMS = ("dict", "box")
CONTINUOUS, DISCRETE = "continuous", "discrete"
VECTOR = "vector"
"""Name of the sensors that `flatten` joined, where there are others beside them."""

_NO_PROPERTY, _TRANSLATES = 1, 2
_ROUNDING = 1e-3


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitySensor:
    """One observation of an agent, as Unity describes it.

    Attributes:
        name: Name of the sensor.
        shape: Of one observation, without a batch.
        channels_last: Of a picture: whether it is `[H, W, C]` (packages before 3.0) and not `[C, H, W]`.
    """

    name: str
    shape: tuple[int, ...]
    channels_last: bool = False

    @property
    def is_picture(self) -> bool:
        """Whether it has height, width and channels."""
        return len(self.shape) == 3

    @classmethod
    def of(cls, name: str, shape: Iterable[int], properties: Iterable[int] = ()) -> UnitySensor:
        """A sensor by what Unity says of it.

        Args:
            name: Name of the sensor.
            shape: Of one observation.
            properties: The dimension properties; they tell channels (none) from places (translation). Where they are
                missing, the smaller of the first and the last axis is taken for the channels.
        """
        sizes, kinds = tuple(int(size) for size in shape), tuple(int(kind) for kind in properties)
        is_last = len(sizes) == 3 and sizes[2] < sizes[0]
        if len(sizes) == len(kinds) == 3 and kinds[0] != kinds[2]:
            is_last = kinds[2] == _NO_PROPERTY or kinds[0] == _TRANSLATES
        return cls(name=name, shape=sizes, channels_last=is_last)


class UnityObservations:
    """Observations of an agent: their space, and batches of them.

    One sensor gives its own space, several give a Dict by sensor name.

    Args:
        sensors: In Unity's order.
        layout: How pictures are given: `"chw"` or `"hwc"`.
        flatten: Whether the sensors that give plain numbers are joined to one vector.
        picture_type: `"uint8"` takes what a sensor gives from 0 to 1 for the brightness of a picture, as cameras and
            render textures do; `"float32"` leaves the numbers as they are, for grid sensors that give others.

    Attributes:
        sensors: As given, with names that differ.
        space: Space of one observation.

    Raises:
        UnknownOptionError: No such layout or picture type.
        SpaceError: No sensor at all, or one of another rank.
    """

    def __init__(
        self,
        sensors: Sequence[UnitySensor],
        *,
        layout: Layout = "chw",
        flatten: bool = False,
        picture_type: PictureType = "uint8",
    ) -> None:
        check_option("layout", layout, LAYOUTS)
        check_option("picture type", picture_type, PICTURE_TYPES)
        self.sensors = _with_unique_names(sensors)
        self._layout = layout
        self._picture_type = picture_type
        self._joined = [i for i, one in enumerate(self.sensors) if len(one.shape) == 1] if flatten else []
        if len(self._joined) < 2:
            self._joined = []
        self._joined_name = _free_name(VECTOR, {one.name for one in self.sensors})
        self.space = self._make_space()

    def batch(self, arrays: Sequence[Array]) -> Tree:
        """A batch of observations, in arrays of its own. `[n, ...]` per leaf

        Args:
            arrays: What Unity gave, one array per sensor. `[n, *shape]`

        Raises:
            SpaceError: A picture is none, because its numbers are not between 0 and 1.
        """
        if len(self.sensors) == 1:
            return self._leaf(0, arrays[0])
        parts = {one.name: self._leaf(i, arrays[i]) for i, one in enumerate(self.sensors) if i not in self._joined}
        if self._joined:
            joined = np.concatenate([arrays[i] for i in self._joined], axis=1, dtype=np.float32)
            if not parts:
                return joined
            parts[self._joined_name] = joined
        return {name: parts[name] for name in self.space} if isinstance(self.space, spaces.Dict) else parts

    def one(self, arrays: Sequence[Array]) -> Tree:
        """A single observation. `[...]` per leaf

        Args:
            arrays: What Unity gave, one array per sensor. `[*shape]`
        """
        batch = self.batch([np.asarray(array)[None] for array in arrays])
        return {name: leaf[0] for name, leaf in batch.items()} if isinstance(batch, dict) else batch[0]

    def picture(self, arrays: Sequence[Array]) -> npt.NDArray[np.uint8] | None:
        """What the agent's first camera sees, `[height, width, 3]`; None without one that people can look at.

        Args:
            arrays: What Unity gave, one array per sensor. `[*shape]`
        """
        for sensor, array in zip(self.sensors, arrays, strict=True):
            if sensor.is_picture:
                brightness = array if sensor.channels_last else np.moveaxis(array, 0, -1)
                if brightness.dtype != np.uint8:
                    brightness = np.rint(np.clip(brightness, 0, 1) * 255).astype(np.uint8)
                shown = brightness[..., -3:] if brightness.shape[-1] >= 3 else brightness[..., -1:]
                return np.array(np.broadcast_to(shown, (*shown.shape[:2], 3)))
        return None

    def _make_space(self) -> gym.Space[Any]:
        if not self.sensors:
            raise SpaceError("The agent has no sensor, so there is nothing to observe. Add one to it in Unity.")
        parts: dict[str, gym.Space[Any]] = {}
        for index, sensor in enumerate(self.sensors):
            if index not in self._joined:
                parts[sensor.name] = self._leaf_space(sensor)
        if self._joined:
            width = sum(self.sensors[i].shape[0] for i in self._joined)
            parts[self._joined_name] = _numbers((width,))
        return next(iter(parts.values())) if len(parts) == 1 else spaces.Dict(parts)

    def _leaf_space(self, sensor: UnitySensor) -> spaces.Box:
        if not 1 <= len(sensor.shape) <= 3:
            raise SpaceError(f"The sensor {sensor.name!r} has the shape {sensor.shape}; expected 1 to 3 axes.")
        if not sensor.is_picture:
            return _numbers(sensor.shape)
        shape = tuple(sensor.shape[axis] for axis in self._axes(sensor))
        return spaces.Box(0, 255, shape, np.uint8) if self._picture_type == "uint8" else _numbers(shape)

    def _leaf(self, index: int, array: Array) -> Array:
        sensor = self.sensors[index]
        if not sensor.is_picture:
            return np.array(array, np.float32)
        given = array.transpose(0, *(axis + 1 for axis in self._axes(sensor)))
        if self._picture_type == "float32":
            return np.array(given / 255 if given.dtype == np.uint8 else given, np.float32, order="C")
        return np.array(given if given.dtype == np.uint8 else _brightness(given, sensor.name), order="C")

    def _axes(self, sensor: UnitySensor) -> tuple[int, int, int]:
        """Where the axes of a picture come from."""
        if sensor.channels_last:
            return (2, 0, 1) if self._layout == "chw" else (0, 1, 2)
        return (0, 1, 2) if self._layout == "chw" else (1, 2, 0)


class UnityActions:
    """Actions of an agent: their space, and the way to Unity's two arrays and back.

    Continuous numbers are a Box from -1 to 1, one branch is a Discrete, several are a MultiDiscrete, and both together
    a Dict of `continuous` and `discrete`; with `hybrid="box"` they are one Box, in which each choice of each branch has
    a score behind the continuous numbers, and the choice of the highest score is taken.

    Args:
        continuous_size: Count of continuous numbers, c.
        branches: Number of choices of each branch.
        hybrid: What an action is where there are both.

    Attributes:
        branches: Number of choices of each branch.
        space: Space of one action.
        n_choices: Number of choices of all branches, as they lie side by side in a mask.

    Raises:
        UnknownOptionError: No such form.
        SpaceError: Nothing to do.
    """

    def __init__(self, continuous_size: int, branches: Sequence[int], *, hybrid: HybridForm = "dict") -> None:
        check_option("form of hybrid actions", hybrid, HYBRID_FORMS)
        self.continuous_size = int(continuous_size)
        self.branches = tuple(int(size) for size in branches)
        self.n_choices = sum(self.branches)
        self._starts = np.cumsum([0, *self.branches])
        self._is_hybrid = self.continuous_size > 0 and bool(self.branches)
        self._is_scored = self._is_hybrid and hybrid == "box"
        self.space = self._make_space()

    @property
    def can_mask(self) -> bool:
        """Whether whoever acts can be told which choices are allowed."""
        return self.n_choices > 0 and not self._is_scored

    def split(self, actions: Tree) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        """Unity's arrays of actions: continuous within -1 to 1 `[n, c]`, discrete `[n, branches]`.

        Args:
            actions: Of the space's structure and types. `[n, ...]` per leaf

        Raises:
            InvalidInputError: A continuous number is NaN or infinite, or a choice does not exist.
        """
        if self._is_scored:
            continuous, discrete = actions[:, : self.continuous_size], self._best(actions[:, self.continuous_size :])
            _check_finite(actions)
        elif self._is_hybrid:
            continuous, discrete = actions[CONTINUOUS], self._column(actions[DISCRETE])
        elif self.branches:
            continuous, discrete = np.zeros((len(actions), 0)), self._column(actions)
        else:
            continuous, discrete = actions, np.zeros((len(actions), 0))
        _check_finite(continuous)
        self._check_choices(discrete)
        return np.clip(continuous, -1, 1).astype(np.float32), discrete.astype(np.int32)

    def join(self, continuous: Array, discrete: Array) -> Tree:
        """Actions of the space from Unity's arrays; the way back from `split`. `[n, ...]` per leaf

        Args:
            continuous: `[n, c]`
            discrete: `[n, branches]`
        """
        numbers, choices = np.array(continuous, np.float32), np.array(discrete, np.int64)
        if self._is_scored:
            return np.concatenate([numbers, self._scores(choices)], axis=1)
        if not self.branches:
            return numbers
        picked = choices[:, 0] if len(self.branches) == 1 else choices
        return {CONTINUOUS: numbers, DISCRETE: picked} if self._is_hybrid else picked

    def permit(self, discrete: npt.NDArray[np.int32], allowed: BoolArray) -> tuple[npt.NDArray[np.int32], int]:
        """Choices with the forbidden ones replaced by the first that is allowed, and how many these were.

        Args:
            discrete: `[n, branches]`
            allowed: `[n, n_choices]`
        """
        if allowed.all():
            return discrete, 0
        rows = np.arange(len(discrete))[:, None]
        forbidden = ~allowed[rows, self._starts[:-1] + discrete]
        if not forbidden.any():
            return discrete, 0
        first = [allowed[:, start : start + size].argmax(1) for start, size in self._places()]
        return np.where(forbidden, np.stack(first, axis=1), discrete).astype(np.int32), int(forbidden.sum())

    def _make_space(self) -> gym.Space[Any]:
        continuous = spaces.Box(-1, 1, (self.continuous_size,), np.float32)
        if not self.branches:
            if not self.continuous_size:
                raise SpaceError("The agent has no actions, so there is nothing to learn. Give it some in Unity.")
            return continuous
        if self._is_scored:
            return spaces.Box(-1, 1, (self.continuous_size + self.n_choices,), np.float32)
        one = len(self.branches) == 1
        discrete = spaces.Discrete(self.branches[0]) if one else spaces.MultiDiscrete(np.array(self.branches))
        return spaces.Dict({CONTINUOUS: continuous, DISCRETE: discrete}) if self._is_hybrid else discrete

    def _column(self, choices: Array) -> Array:
        return choices[:, None] if len(self.branches) == 1 else choices

    def _best(self, scores: Array) -> Array:
        return np.stack([scores[:, start : start + size].argmax(1) for start, size in self._places()], axis=1)

    def _scores(self, choices: Array) -> npt.NDArray[np.float32]:
        scores = np.full((len(choices), self.n_choices), -1, np.float32)
        scores[np.arange(len(choices))[:, None], self._starts[:-1] + choices] = 1
        return scores

    def _places(self) -> list[tuple[int, int]]:
        return [(int(start), size) for start, size in zip(self._starts[:-1], self.branches, strict=True)]

    def _check_choices(self, discrete: Array) -> None:
        wrong = (discrete < 0) | (discrete >= np.array(self.branches, np.int64))
        if wrong.any():
            row, branch = (int(place) for place in np.argwhere(wrong)[0])
            raise InvalidInputError(
                f"Row {row} chose {discrete[row, branch]} in branch {branch} of its action, which has the choices 0 to "
                f"{self.branches[branch] - 1}."
            )


def _numbers(shape: tuple[int, ...]) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, shape, np.float32)


def _brightness(numbers: Array, name: str) -> npt.NDArray[np.uint8]:
    if numbers.size and (numbers.min() < -_ROUNDING or numbers.max() > 1 + _ROUNDING):
        raise SpaceError(
            f"The sensor {name!r} gives numbers from {numbers.min():g} to {numbers.max():g}; those of a picture lie "
            "between 0 and 1. Set picture_type='float32' to have them as they are."
        )
    brightness: npt.NDArray[np.uint8] = np.rint(np.clip(numbers, 0, 1) * 255).astype(np.uint8)
    return brightness


def _with_unique_names(sensors: Sequence[UnitySensor]) -> tuple[UnitySensor, ...]:
    """Sensors with names that differ and can name the parts of a network, which allow no dots."""
    taken: set[str] = set()
    named = []
    for index, sensor in enumerate(sensors):
        name = _free_name(sensor.name.replace(".", "_") or f"sensor_{index}", taken)
        taken.add(name)
        named.append(replace(sensor, name=name))
    return tuple(named)


def _free_name(wanted: str, taken: set[str]) -> str:
    """The name, with the first number behind it that makes it a new one."""
    name, number = wanted, 1
    while name in taken:
        name, number = f"{wanted}_{number}", number + 1
    return name


def _check_finite(numbers: Array) -> None:
    if not np.isfinite(numbers).all():
        row = int(np.argwhere(~np.isfinite(numbers))[0][0])
        raise InvalidInputError(f"The action of row {row} contains {numbers[row]}, which are not all finite numbers.")


def check_option(what: str, given: object, known: Sequence[str]) -> None:
    """Refuse a text that is none of the choices.

    Args:
        what: What is chosen, as the error names it.
        given: The choice.
        known: All that there are.

    Raises:
        UnknownOptionError: There is no such choice.
    """
    if given not in known:
        raise UnknownOptionError.of(what, str(given), known)
