"""The fields of a configuration, one by one: what the command line offers, and what a study may choose."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from rl_framework.errors import InvalidInputError
from rl_framework.launch.search_space import DESCRIPTION, SEARCH, SearchSpace
from rl_framework.launch.value_types import UNIONS, check_supported, default_of, field_types, is_config

ATTRIBUTE = re.compile(r"^ {4}(\w+)(?: \([^)]*\))?: ", re.MULTILINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfigField:
    """One field that holds a value, not a configuration of its own.

    Attributes:
        name: With dots where it lies in a nested configuration: `optimizer.learning_rate`.
        kind: Its type.
        default: Its value unless something else is said; `dataclasses.MISSING` if something must be.
        search: What a study may choose for it, None if it may not.
        description: What it is, as the docstring of its class says.
        absent: Whether it lies in a configuration that is None unless something of it is said.
    """

    name: str
    kind: Any
    default: Any
    search: SearchSpace | None
    description: str
    absent: bool = False


def config_fields(config_class: type) -> tuple[ConfigField, ...]:
    """The fields of a configuration and of those in it, in order.

    Raises:
        InvalidInputError: The class is not a frozen dataclass, or a field has a type that no file can hold.
    """
    return tuple(_walk(config_class, "", dataclasses.MISSING))


def searched_fields(config_class: type) -> dict[str, SearchSpace]:
    """What a study may choose, by name."""
    return {each.name: each.search for each in config_fields(config_class) if each.search is not None}


def nested_config(kind: Any) -> type | None:
    """The configuration that a field holds, or may hold beside None; None if it holds a plain value."""
    candidates = get_args(kind) if get_origin(kind) in UNIONS else (kind,)
    found = [each for each in candidates if is_config(each)]
    rest = [each for each in candidates if each not in found and each is not type(None)]
    return found[0] if len(found) == 1 and not rest else None


def nested_tree(values: Mapping[str, Any], leaves: Container[str] = (), prefix: str = "") -> dict[str, Any]:
    """Names with dots as mappings in mappings: `{"a.b": 1}` becomes `{"a": {"b": 1}}`.

    Args:
        values: Values by name.
        leaves: Names of fields whose values stay as they are: the dots in the keys of a mapping there are its own.
        prefix: What the names are to be thought of behind.

    Raises:
        InvalidInputError: A name is given twice, or as a value and as a mapping.
    """
    tree: dict[str, Any] = {}
    for name, value in values.items():
        *parents, last = str(name).split(".")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise InvalidInputError(f"{name} cannot be set beside {parent}, which has a value of its own.")
        inner = _nested_value(value, leaves, f"{prefix}{name}")
        if isinstance(place.get(last), dict) and isinstance(inner, dict):
            place[last] |= inner
        elif last in place:
            raise InvalidInputError(f"{name} is set twice.")
        else:
            place[last] = inner
    return tree


def names_within(tree: Mapping[str, Any], known: Iterable[str]) -> set[str]:
    """Which of the names with dots have a value in a tree."""
    return {name for name in known if _reaches(tree, name.split("."))}


def described_attributes(config_class: type) -> dict[str, str]:
    """What the section `Attributes:` of a class's docstring says of each, in one line."""
    _, _, section = (inspect.getdoc(config_class) or "").partition("Attributes:\n")
    parts = ATTRIBUTE.split(section.split("\n\n", 1)[0])
    return {name: " ".join(text.split()) for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def _walk(config_class: type, prefix: str, instance: Any, *, absent: bool = False) -> Iterator[ConfigField]:
    """The fields, with the defaults of an instance where the outer configuration has one."""
    kinds, descriptions = field_types(config_class), described_attributes(config_class)
    for each in dataclasses.fields(config_class):
        if not each.init:
            continue
        name, kind, default = prefix + each.name, kinds[each.name], _default_of(each, instance)
        check_supported(kind, name)
        inner = nested_config(kind)
        if inner is None:
            description = each.metadata.get(DESCRIPTION) or descriptions.get(each.name, "")
            search = each.metadata.get(SEARCH)
            yield ConfigField(
                name=name, kind=kind, default=default, search=search, description=description, absent=absent
            )
        else:
            inner_default = default if isinstance(default, inner) else dataclasses.MISSING
            yield from _walk(inner, f"{name}.", inner_default, absent=absent or default is None)


def _default_of(item: dataclasses.Field[Any], instance: Any) -> Any:
    return default_of(item) if instance is dataclasses.MISSING else getattr(instance, item.name)


def _nested_value(value: Any, leaves: Container[str], name: str) -> Any:
    if not isinstance(value, Mapping):
        return value
    return dict(value) if name in leaves else nested_tree(value, leaves, f"{name}.")


def _reaches(tree: Any, path: list[str]) -> bool:
    return not path or (isinstance(tree, Mapping) and path[0] in tree and _reaches(tree[path[0]], path[1:]))
