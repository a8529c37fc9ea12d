"""What a study may choose for a hyper-parameter: a range of numbers, or one of several values."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from rl_framework.errors import InvalidInputError
from rl_framework.launch.value_types import parse_literal, to_plain

SEARCH, DESCRIPTION = "search", "description"
RANGE_FIELDS = ("low", "high", "log", "step")
PLAIN = (bool, int, float, str, type(None))


class Suggesting(Protocol):
    """The part of an Optuna trial that chooses values."""

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        """A number."""
        ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """A whole number."""
        ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of several values."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchRange:
    """Numbers from `low` to `high`, both included.

    Attributes:
        low: The least.
        high: The greatest.
        log: Whether every factor is as likely as every other, instead of every difference.
        step: Distance between neighbouring numbers; None for all numbers between the bounds.
        whole: Whether they are whole numbers.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    whole: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise InvalidInputError(f"A range needs finite bounds with low < high; got {self.low} to {self.high}.")
        if self.log and self.low <= 0:
            raise InvalidInputError(f"A logarithmic range begins above 0; got {self.low} to {self.high}.")
        if self.step is not None and (self.log or not 0 < self.step <= self.high - self.low):
            raise InvalidInputError(
                f"A step lies above 0 and within its range, which is not logarithmic; got {self.step} in {self}."
            )
        if self.whole and any(not _is_whole(each) for each in (self.low, self.high, self.step or 1)):
            raise InvalidInputError(f"Whole numbers need whole bounds and a whole step; got {self}.")

    def __str__(self) -> str:
        endings = [*(["log"] if self.log else []), *([] if self.step is None else [f"step={self.step:g}"])]
        return ":".join((f"{self.low:g}..{self.high:g}", *endings))

    def suggest(self, trial: Suggesting, name: str) -> Any:
        """Let a trial choose."""
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return trial.suggest_float(name, float(self.low), float(self.high), step=self.step, log=self.log)

    def count(self) -> int | None:
        """How many values there are; None for more than can be counted."""
        step = self.step or (1 if self.whole else None)
        return None if step is None else int((self.high - self.low) / step + 1e-9) + 1

    def __contains__(self, value: Any) -> bool:
        return _is_number(value) and self.low <= value <= self.high and (not self.whole or _is_whole(value))

    def to_json(self) -> dict[str, Any]:
        """What `search_space_from_json` makes it from again."""
        given = {name: getattr(self, name) for name in RANGE_FIELDS}
        kept = {name: value for name, value in given.items() if value is not None and value is not False}
        return {name: _as_written(value, whole=self.whole) for name, value in kept.items()}


@dataclass(frozen=True, slots=True)
class SearchChoices:
    """One of several values of any kind."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.values or len(set(self._labels())) < len(self.values):
            raise InvalidInputError(f"Choices are one or more different values; got {list(self.values)!r}.")

    def __str__(self) -> str:
        return " | ".join(map(str, self._labels()))

    def suggest(self, trial: Suggesting, name: str) -> Any:
        """Let a trial choose; a study's storage keeps texts for values that are not plain."""
        labels = self._labels()
        return self.values[labels.index(trial.suggest_categorical(name, labels))]

    def count(self) -> int:
        """How many values there are."""
        return len(self.values)

    def __contains__(self, value: Any) -> bool:
        return value in self.values

    def to_json(self) -> dict[str, Any]:
        """What `search_space_from_json` makes it from again, as plain values."""
        return {"choices": to_plain(self.values)}

    def _labels(self) -> list[Any]:
        plain = to_plain(self.values)
        return plain if all(isinstance(each, PLAIN) for each in plain) else [json.dumps(each) for each in plain]


SearchSpace: TypeAlias = SearchRange | SearchChoices


def tunable(
    default: Any,
    *,
    low: float | None = None,
    high: float | None = None,
    log: bool = False,
    step: float | None = None,
    choices: Sequence[Any] | None = None,
    description: str = "",
) -> Any:
    """A field of a configuration that a study may choose.

    `learning_rate: float = tunable(3e-4, low=1e-5, high=1e-2, log=True)`

    Args:
        default: Its value unless something else is said.
        low: The least number; whole numbers are meant where `low`, `high` and `default` are whole.
        high: The greatest number.
        log: Whether every factor is as likely as every other.
        step: Distance between neighbouring numbers.
        choices: The values to choose from, instead of a range.
        description: A sentence for the help.

    Raises:
        InvalidInputError: Neither a range nor choices are given, or both; or the default is not among them.
    """
    space = _choices(choices, (low, high, step)) if choices is not None else _range(default, low, high, log, step)
    if default is not None and default not in space:
        raise InvalidInputError(f"The default {default!r} is not within {space}.")
    metadata = {SEARCH: space, DESCRIPTION: description}
    return dataclasses.field(default=default, metadata=metadata)


def search_space_from_json(name: str, node: Any) -> SearchSpace:
    """A search space as data files have it: `{"low": 1, "high": 9, "log": true}` or `{"choices": [32, 64]}`.

    Numbers without a point are whole.

    Raises:
        InvalidInputError: It is neither.
    """
    if isinstance(node, Mapping) and set(node) == {"choices"}:
        return SearchChoices(tuple(node["choices"]))
    if not isinstance(node, Mapping) or not {"low", "high"} <= set(node) <= set(RANGE_FIELDS):
        raise InvalidInputError(f"{name} needs low and high, maybe log and step, or choices; got {node!r}.")
    return SearchRange(**node, whole=_are_whole(node["low"], node["high"], node.get("step")))


def parse_search_space(name: str, text: str) -> SearchSpace:
    """A search space as a command line has it: `1e-5..1e-2:log`, `0..1:step=0.1`, `32,64,128` or `[[64], [64, 64]]`.

    Raises:
        InvalidInputError: It is none of these.
    """
    if ".." not in text:
        values = parse_literal(text)
        return SearchChoices(
            tuple(values) if isinstance(values, list | tuple) else tuple(map(parse_literal, text.split(",")))
        )
    bounds, *endings = text.split(":")
    low, _, high = (parse_literal(part) if part != ".." else part for part in bounds.partition(".."))
    node: dict[str, Any] = {"low": low, "high": high}
    for ending in endings:
        option, equals, value = ending.partition("=")
        node[option] = parse_literal(value) if equals else True
    if not all(map(_is_number, (low, high, node.get("step", 1)))) or node.get("log", True) is not True:
        raise InvalidInputError(f"Expected {name}=low..high with numbers, and maybe :log or :step=x; got {text!r}.")
    return search_space_from_json(name, node)


def _choices(choices: Sequence[Any], others: Sequence[Any]) -> SearchSpace:
    if any(each is not None for each in others):
        raise InvalidInputError("Give a range or choices, not both.")
    return SearchChoices(tuple(choices))


def _range(default: Any, low: float | None, high: float | None, log: bool, step: float | None) -> SearchSpace:
    if low is None or high is None:
        raise InvalidInputError("A tunable field needs low and high, or choices.")
    whole = _are_whole(low, high, step) and (default is None or _are_whole(default))
    return SearchRange(low=low, high=high, log=log, step=step, whole=whole)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_whole(*values: Any) -> bool:
    return all(value is None or type(value) is int for value in values)


def _is_whole(value: float) -> bool:
    return float(value).is_integer()


def _as_written(value: Any, *, whole: bool) -> Any:
    """A bound that is whole by accident keeps its point, because numbers without one mean whole numbers."""
    return value if whole or isinstance(value, bool) else float(value)
