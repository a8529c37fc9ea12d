"""YAML as people write it: mappings in lines, lists in one line. The one place that knows PyYAML."""

from __future__ import annotations

from typing import Any

import yaml

from rl_framework.errors import InvalidInputError

WIDTH = 120


class PlainDumper(yaml.SafeDumper):
    """Writes plain values only; aliases are written out."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  # the same answer for all
        """Never refer to what was written before."""
        return True


def _in_one_line(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=True)


PlainDumper.add_representer(list, _in_one_line)


def parse(text: str, name: str) -> Any:
    """The value of a YAML text, an empty mapping for an empty one; nothing in it is executed.

    Raises:
        InvalidInputError: It is not YAML, or names Python objects.
    """
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"{name} is not YAML that can be read safely: {error}") from error
    return {} if value is None else value


def dump(value: Any) -> str:
    """A plain value as YAML, in the order in which it was given; letters beyond ASCII are escaped.

    PyYAML can leave them as they are, but then some line separators come back as spaces.

    Raises:
        InvalidInputError: It holds something that is not plain.
    """
    try:
        text: str = yaml.dump(value, Dumper=PlainDumper, sort_keys=False, default_flow_style=False, width=WIDTH)
    except yaml.YAMLError as error:
        raise InvalidInputError(f"Expected plain values for a configuration: {error}") from error
    return text
