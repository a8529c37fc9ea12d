"""Numbers that change over a run, as pure functions of how much of it is left.

A schedule is called with `progress_remaining`, which falls from 1 at the start of training to 0 at its end: the
convention of Stable-Baselines3, so a schedule can be given to its algorithms as a learning rate or clip range.
`dataclasses.asdict` turns a schedule into a JSON value, and `as_schedule` turns that back.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, Protocol, TypeAlias

from rl_framework.errors import InvalidInputError, UnknownOptionError

INTERPOLATIONS = ("step", "linear")
ROUNDING = 1e-9  # 1 - 0.9 is a little less than 0.1, and the point at 0.1 is meant


class Schedule(Protocol):
    """A number as a function of what is left of the run, in [0, 1]."""

    def __call__(self, progress_remaining: float) -> float:
        """The value when `progress_remaining` of the run is left."""
        ...


@dataclass(frozen=True, slots=True)
class ConstantSchedule:
    """Always the same number.

    Attributes:
        value: The number.
        kind: Tells the kinds of schedule apart in JSON.
    """

    value: float
    kind: str = field(default="constant", init=False)

    def __post_init__(self) -> None:
        _check_finite("value", self.value)

    def __call__(self, progress_remaining: float) -> float:  # noqa: ARG002  (it is the same for all)
        """The value, whatever is left of the run."""
        return self.value


@dataclass(frozen=True, slots=True)
class LinearSchedule:
    """A straight line from one number to another, then level.

    Attributes:
        initial: Value at the start.
        final: Value at the end of the line, and from there on.
        fraction: Share of the run that the line takes, in (0, 1].
        kind: Tells the kinds of schedule apart in JSON.
    """

    initial: float
    final: float
    fraction: float = 1.0
    kind: str = field(default="linear", init=False)

    def __post_init__(self) -> None:
        _check_finite("initial", self.initial)
        _check_finite("final", self.final)
        _check_fraction(self.fraction)

    def __call__(self, progress_remaining: float) -> float:
        """The value on the line."""
        done = _share_done(progress_remaining, self.fraction)
        return (1.0 - done) * self.initial + done * self.final


@dataclass(frozen=True, slots=True)
class ExponentialSchedule:
    """From one positive number to another by the same factor in equal times, then level.

    Attributes:
        initial: Value at the start, above 0.
        final: Value at the end of the decay, and from there on, above 0.
        fraction: Share of the run that the decay takes, in (0, 1].
        kind: Tells the kinds of schedule apart in JSON.
    """

    initial: float
    final: float
    fraction: float = 1.0
    kind: str = field(default="exponential", init=False)

    def __post_init__(self) -> None:
        for name, value in (("initial", self.initial), ("final", self.final)):
            _check_finite(name, value)
            if value <= 0.0:
                raise InvalidInputError(f"{name} of an exponential schedule must be above 0, got {value}.")
        _check_fraction(self.fraction)

    def __call__(self, progress_remaining: float) -> float:
        """The value on the curve."""
        done = _share_done(progress_remaining, self.fraction)
        return math.exp((1.0 - done) * math.log(self.initial) + done * math.log(self.final))


@dataclass(frozen=True, slots=True)
class PiecewiseSchedule:
    """From point to point: in steps, or along straight lines; level behind the last point.

    Attributes:
        points: Pairs of a share of the run that is done and the value from there on, or there. Shares rise from
            exactly 0 to at most 1.
        interpolation: "step" holds each value until the next point, "linear" draws lines between them.
        kind: Tells the kinds of schedule apart in JSON.
    """

    points: tuple[tuple[float, float], ...]
    interpolation: Literal["step", "linear"] = "step"
    kind: str = field(default="piecewise", init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", _as_points(self.points))  # lists, as JSON has them, become tuples
        if self.interpolation not in INTERPOLATIONS:
            raise InvalidInputError(
                f"interpolation of a schedule must be one of {INTERPOLATIONS}, got {self.interpolation!r}."
            )

    def __call__(self, progress_remaining: float) -> float:
        """The value at, or since, the points around."""
        done = _share_done(progress_remaining, 1.0)
        n_reached = bisect_right(self.points, done + ROUNDING, key=_share)
        share, value = self.points[n_reached - 1]
        if self.interpolation == "step" or n_reached == len(self.points):
            return value
        next_share, next_value = self.points[n_reached]
        way = max(0.0, (done - share) / (next_share - share))
        return (1.0 - way) * value + way * next_value


AnySchedule: TypeAlias = ConstantSchedule | LinearSchedule | ExponentialSchedule | PiecewiseSchedule
_KINDS: dict[str, type[AnySchedule]] = {
    "constant": ConstantSchedule,
    "linear": LinearSchedule,
    "exponential": ExponentialSchedule,
    "piecewise": PiecewiseSchedule,
}


def as_schedule(value: Any) -> AnySchedule:
    """The schedule that is meant.

    Args:
        value: A schedule as it is, a number for a constant one, or the JSON form of a schedule.

    Raises:
        UnknownOptionError: The JSON form names a kind or a field that does not exist.
        InvalidInputError: It is none of them, or a number is out of range.
    """
    if isinstance(value, AnySchedule):
        return value
    if isinstance(value, Mapping):
        return _from_json(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return ConstantSchedule(float(value))
    raise InvalidInputError(f"Expected a number or a schedule of rl_framework.functional.schedules, got {value!r}.")


def _from_json(data: Mapping[str, Any]) -> AnySchedule:
    kind = str(data.get("kind"))
    if kind not in _KINDS:
        raise UnknownOptionError.of("kind of schedule", kind, _KINDS)
    schedule, values = _KINDS[kind], {name: value for name, value in data.items() if name != "kind"}
    try:
        return schedule(**values)
    except TypeError as error:
        raise UnknownOptionError(f"Not the fields of a {kind} schedule: {dict(values)}: {error}.") from error


def _share_done(progress_remaining: float, fraction: float) -> float:
    """How much of the change has happened, in [0, 1]."""
    return min(1.0, max(0.0, (1.0 - progress_remaining) / fraction))


def _check_finite(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidInputError(f"{name} of a schedule must be a finite number, got {value!r}.")


def _check_fraction(fraction: float) -> None:
    _check_finite("fraction", fraction)
    if not 0.0 < fraction <= 1.0:
        raise InvalidInputError(f"fraction of a schedule must be above 0 and at most 1, got {fraction}.")


def _as_points(points: Any) -> tuple[tuple[float, float], ...]:
    if not isinstance(points, Iterable) or isinstance(points, str | Mapping):
        raise InvalidInputError(f"points of a schedule must be pairs (share of the run done, value), got {points!r}.")
    pairs = tuple(_as_point(point) for point in points)
    shares = [share for share, _ in pairs]
    if not pairs or shares[0] != 0.0 or shares[-1] > 1.0 or any(late <= early for early, late in pairwise(shares)):
        raise InvalidInputError(f"Shares of the points of a schedule must rise from 0 to at most 1, got {shares}.")
    return pairs


def _as_point(point: Any) -> tuple[float, float]:
    if not isinstance(point, list | tuple) or len(point) != 2:
        raise InvalidInputError(f"A point of a schedule must be a pair (share of the run done, value), got {point!r}.")
    for name, number in zip(("share of a point", "value of a point"), point, strict=True):
        _check_finite(name, number)
    return float(point[0]), float(point[1])


def _share(point: tuple[float, float]) -> float:
    return point[0]
