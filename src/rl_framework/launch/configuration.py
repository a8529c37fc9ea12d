"""A configuration out of its sources: the command line over a file over the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from rl_framework.errors import UnknownOptionError
from rl_framework.launch.config_fields import config_fields, nested_tree
from rl_framework.launch.value_types import from_plain, from_text, merged, to_plain

C = TypeVar("C")


def build_config(config_class: type[C], *layers: Mapping[str, Any]) -> C:
    """A configuration from trees of plain values; what none of them says has its default, and later ones win.

    Raises:
        InvalidInputError: A value is of the wrong type, one without default is missing, or the class refuses them.
        UnknownOptionError: A name is not a field.
    """
    config: C = from_plain(config_class, merged(*layers), "")
    return config


def tree_of_texts(config_class: type, texts: Mapping[str, str]) -> dict[str, Any]:
    """Plain values from texts on the command line, by names with dots.

    Raises:
        UnknownOptionError: A name is not a field.
        InvalidInputError: A text does not say a value of the field's type.
    """
    known = {each.name: each for each in config_fields(config_class)}
    for name in texts:
        if name not in known:
            raise UnknownOptionError.of(f"field of {config_class.__name__}", name, known)
    values = {name: to_plain(from_text(known[name].kind, text, name)) for name, text in texts.items()}
    return nested_tree(values, known)


def config_tree(config: Any) -> dict[str, Any]:
    """A configuration as a file holds it."""
    tree: dict[str, Any] = to_plain(config)
    return tree
