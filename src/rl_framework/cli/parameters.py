"""`key=value` on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rl_framework.errors import InvalidInputError
from rl_framework.launch.value_types import parse_literal


def parse_parameters(pairs: Sequence[str]) -> dict[str, Any]:
    """Names and values out of `name=value` texts; of the same name, the last one counts.

    Raises:
        InvalidInputError: A text has no `=`, or no name before it.
    """
    return dict(map(_parse_pair, pairs))


def _parse_pair(pair: str) -> tuple[str, Any]:
    name, equals, text = pair.partition("=")
    if not equals or not name.strip():
        raise InvalidInputError(f"Expected --parameter name=value, such as --parameter gamma=0.98; got {pair!r}.")
    return name.strip(), parse_literal(text)
