"""`key=value` on the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rl_framework.errors import InvalidInputError
from rl_framework.launch.value_types import parse_literal


def parse_parameters(pairs: Sequence[str]) -> dict[str, Any]:
    """Names and values out of `name=value` texts; of the same name, the last one counts.

    Raises:
        InvalidInputError: A text has no `=`, or no name before it.
    """
    return dict(map(_parse_pair, pairs))


def with_parameters(basis: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with others in their place; `rule.learning_rate` is the entry `learning_rate` of the mapping `rule`.

    Args:
        basis: What was there.
        given: What counts where both say something.

    Raises:
        InvalidInputError: A name goes into what is no mapping.
    """
    merged = dict(basis)
    for name, value in given.items():
        first, dot, rest = name.partition(".")
        if not dot:
            merged[name] = value
            continue
        inner = merged.get(first)
        if inner is not None and not isinstance(inner, Mapping):
            raise InvalidInputError(f"{name}={value!r} is no setting of {first}, which is {inner!r}.")
        merged[first] = with_parameters(inner or {}, {rest: value})
    return merged


def _parse_pair(pair: str) -> tuple[str, Any]:
    name, equals, text = pair.partition("=")
    if not equals or not name.strip():
        raise InvalidInputError(f"Expected --parameter name=value, such as --parameter gamma=0.98; got {pair!r}.")
    return name.strip(), parse_literal(text)
