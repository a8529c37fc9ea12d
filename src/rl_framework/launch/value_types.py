"""Values of a configuration: from the plain values of a file, from a text on the command line, and back.

Understood are bool, int, float, str, Path, enumerations, `Literal`, unions and `None`, tuples, lists, mappings,
frozen dataclasses of all these, and `Any`.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import types
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeGuard, TypeVar, Union, get_args, get_origin, get_type_hints

from rl_framework.errors import InvalidInputError, UnknownOptionError

C = TypeVar("C")
NONE_TEXTS = ("none", "null")
BOOL_TEXTS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
UNIONS = (Union, types.UnionType)
MAPPINGS = (dict, Mapping)
SEQUENCES = (list, Sequence)
BRACKETS = frozenset("[]()'\"")


def from_plain(kind: Any, value: Any, where: str) -> Any:
    """A value of a type out of what a file holds.

    Numbers may be written as text, because YAML takes `1e-3` for one.

    Args:
        kind: The type.
        value: None, a bool, number, text, list or mapping; or a value of the type.
        where: Name of the field, with dots, for messages.

    Raises:
        InvalidInputError: The value is not of the type.
        UnknownOptionError: A mapping has a key that is not a field.
    """
    if kind is Any:
        return value
    if is_config(kind):
        return _dataclass_from_plain(kind, value, where)
    origin = get_origin(kind) or kind
    if origin in UNIONS:
        return _member_from_plain(kind, value, where)
    if origin is tuple or origin in SEQUENCES:
        items = _items_from_plain(kind, value, where)
        return tuple(items) if origin is tuple else items
    return (_mapping_from_plain if origin in MAPPINGS else _scalar_from_plain)(kind, value, where)


def from_text(kind: Any, text: str, where: str) -> Any:
    """A value of a type out of a text on the command line.

    Raises:
        InvalidInputError: The text does not say such a value.
    """
    origin = get_origin(kind) or kind
    if origin in UNIONS:
        return _member_from_text(kind, text, where)
    if origin is tuple or origin in SEQUENCES:
        return _items_from_text(kind, text, where)
    if kind is Any or origin in MAPPINGS or is_config(kind):
        return from_plain(kind, parse_literal(text), where)
    return _scalar_from_plain(kind, text, where)


def to_plain(value: Any) -> Any:
    """The value as files hold it: enumerations by name, paths as text, tuples as lists, dataclasses as mappings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: to_plain(getattr(value, each.name)) for each in dataclasses.fields(value) if each.init}
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): to_plain(part) for key, part in value.items()}
    return [to_plain(part) for part in value] if isinstance(value, list | tuple) else value


def parse_literal(text: str) -> Any:
    """A value as Python or JSON writes it, else the text without the spaces around it."""
    text = text.strip()
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):
        return _parse_json(text)


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def type_name(kind: Any) -> str:
    """A type in the words of its annotation: `int | None`, `tuple[int, ...]`, `'adam' | 'sgd'`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in UNIONS:
        return " | ".join(map(type_name, arguments))
    if origin is Literal:
        return " | ".join(map(repr, arguments))
    if kind in (None, type(None)):
        return "None"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " | ".join(member.name for member in kind)
    if origin is not None:
        inner = ", ".join("..." if each is Ellipsis else type_name(each) for each in arguments)
        return f"{origin.__name__}[{inner}]"
    return getattr(kind, "__name__", str(kind))


def check_supported(kind: Any, where: str) -> None:
    """Refuse a type that neither a file nor a command line can give.

    Raises:
        InvalidInputError: It is one.
    """
    origin = get_origin(kind) or kind
    if origin is Literal or kind is Any or origin in _SCALARS or _is_enum(kind):
        return
    if is_config(kind):
        field_types(kind)
        return
    if origin not in (*UNIONS, *MAPPINGS, *SEQUENCES, tuple):
        raise InvalidInputError(
            f"The field {where} is of type {type_name(kind)}, which no file can hold. Use bool, int, float, str, Path, "
            "an enumeration, Literal, unions, tuples, lists, mappings or frozen dataclasses of these."
        )
    for part in get_args(kind):
        if part is not Ellipsis:
            check_supported(part, where)


def is_config(kind: Any) -> TypeGuard[type]:
    """Whether a type is a dataclass."""
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def field_types(config_class: type) -> dict[str, Any]:
    """The types of the fields that a constructor takes, by name.

    Raises:
        InvalidInputError: It is not a frozen dataclass, or an annotation cannot be looked up.
    """
    parameters = getattr(config_class, "__dataclass_params__", None)
    if parameters is None or not parameters.frozen:
        raise InvalidInputError(
            f"A configuration is a frozen dataclass: put @dataclass(frozen=True) on {config_class!r}."
        )
    try:
        hints = get_type_hints(config_class)
    except NameError as error:
        raise InvalidInputError(
            f"The annotations of {config_class.__name__} cannot be looked up: {error}. Define it and the types of its "
            "fields at the top of a module."
        ) from error
    return {each.name: hints[each.name] for each in dataclasses.fields(config_class) if each.init}


def default_of(item: dataclasses.Field[Any]) -> Any:
    """What a field has unless something is said; `dataclasses.MISSING` if something must be."""
    factory: Any = item.default_factory
    return item.default if factory is dataclasses.MISSING else factory()


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings laid over each other; of the same name, the last one counts."""
    whole: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            below = whole.get(name)
            both = isinstance(value, Mapping) and isinstance(below, Mapping)
            whole[name] = merged(below, value) if both else value  # type: ignore[arg-type]  # `both` says so
    return whole


def _dataclass_from_plain(kind: type[C], value: Any, where: str) -> C:
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise _mismatch(kind, value, where)
    known = field_types(kind)
    for name in value:
        if name not in known:
            raise UnknownOptionError.of(f"field of {where or kind.__name__}", str(name), known)
    defaults = {each.name: default_of(each) for each in dataclasses.fields(kind)}  # type: ignore[arg-type]  # checked above
    missing = [_joined(where, name) for name in known if name not in value and defaults[name] is dataclasses.MISSING]
    if missing:
        raise InvalidInputError(f"These fields have no default, so they need a value: {', '.join(missing)}.")
    given = {
        name: from_plain(known[name], _over_default(part, defaults[name]), _joined(where, name))
        for name, part in value.items()
    }
    return _construct(kind, given, where)


def _over_default(value: Any, default: Any) -> Any:
    """A part of a nested configuration leaves the rest of the default as it is."""
    is_part = isinstance(value, Mapping) and dataclasses.is_dataclass(default)
    return merged(to_plain(default), value) if is_part else value


def _construct(kind: type[C], given: Mapping[str, Any], where: str) -> C:
    try:
        return kind(**given)
    except InvalidInputError:
        raise
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{where or kind.__name__} refuses its values: {error}") from error


def _member_from_plain(kind: Any, value: Any, where: str) -> Any:
    """A value that is of one of the types as it is belongs there; `1` is no bool, and `"1"` no number if texts fit."""
    members = get_args(kind)
    if type(value) in members:
        return value
    return _first_that_fits(members, lambda each: from_plain(each, value, where), _mismatch(kind, value, where))


def _member_from_text(kind: Any, text: str, where: str) -> Any:
    """Texts fit a string or a path in any case, so these come last."""
    members = sorted(get_args(kind), key=lambda each: each in (str, Path))
    return _first_that_fits(members, lambda each: from_text(each, text, where), _mismatch(kind, text, where))


def _first_that_fits(members: Sequence[Any], convert: Callable[[Any], Any], otherwise: InvalidInputError) -> Any:
    """What the first type makes of it; if none can, the error of a configuration among them says most."""
    if not members:
        raise otherwise
    try:
        return convert(members[0])
    except InvalidInputError as error:
        return _first_that_fits(members[1:], convert, error if is_config(members[0]) else otherwise)


def _items_from_plain(kind: Any, value: Any, where: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise _mismatch(kind, value, where)
    kinds = _item_kinds(kind, len(value))
    if len(kinds) != len(value):
        raise _mismatch(kind, value, where)
    return [
        from_plain(each, part, f"{where}[{index}]") for index, (each, part) in enumerate(zip(kinds, value, strict=True))
    ]


def _items_from_text(kind: Any, text: str, where: str) -> Any:
    """`[32, 64]`, `(32, 64)` or `32,64`; without brackets and quotes, the parts are read as the items' type."""
    value = parse_literal(text) if BRACKETS & set(text) else text
    if not isinstance(value, list | tuple):
        parts = [part.strip() for part in text.strip().strip("[]()").split(",") if part.strip()]
        kinds = _item_kinds(kind, len(parts))
        pairs = zip(kinds, parts, strict=True) if len(kinds) == len(parts) else ()
        value = [from_text(each, part, where) for each, part in pairs]
    return from_plain(kind, value, where)


def _item_kinds(kind: Any, count: int) -> list[Any]:
    arguments = get_args(kind)
    if not arguments:
        return [Any] * count
    if get_origin(kind) is tuple and Ellipsis not in arguments:
        return list(arguments)
    return [arguments[0]] * count


def _mapping_from_plain(kind: Any, value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _mismatch(kind, value, where)
    key_kind, part_kind = get_args(kind) or (Any, Any)
    return {
        from_plain(key_kind, key, where): from_plain(part_kind, part, _joined(where, str(key)))
        for key, part in value.items()
    }


def _scalar_from_plain(kind: Any, value: Any, where: str) -> Any:
    if get_origin(kind) is Literal:
        choices = {**{str(each): each for each in get_args(kind)}, **{each: each for each in get_args(kind)}}
        convert: Callable[[Any], Any] = choices.__getitem__
    else:
        convert = (lambda given: _as_member(kind, given)) if _is_enum(kind) else _SCALARS[kind]
    try:
        return convert(value)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _mismatch(kind, value, where) from error


def _as_bool(value: Any) -> bool:
    return value if isinstance(value, bool) else BOOL_TEXTS[_as_text(value).lower()]


def _as_int(value: Any) -> int:
    number = _as_float(value)
    if isinstance(value, int):
        return value
    if not number.is_integer():
        raise ValueError(value)
    return int(value) if isinstance(value, str) and value.strip().lstrip("+-").isdigit() else int(number)


def _as_float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(value)
    return float(value)


def _as_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _as_path(value: Any) -> Path:
    return Path(value)


def _as_none(value: Any) -> None:
    if value is not None and str(value).lower() not in NONE_TEXTS:
        raise ValueError(value)


_SCALARS: dict[Any, Callable[[Any], Any]] = {
    bool: _as_bool,
    int: _as_int,
    float: _as_float,
    str: _as_text,
    Path: _as_path,
    type(None): _as_none,
}


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


def _as_member(kind: type[Enum], value: Any) -> Enum:
    """By name, else by value."""
    if isinstance(value, kind):
        return value
    return kind[value] if isinstance(value, str) and value in kind.__members__ else kind(value)


def _joined(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _mismatch(kind: Any, value: Any, where: str) -> InvalidInputError:
    return InvalidInputError(f"{where or 'The configuration'} needs {type_name(kind)}; got {value!r}.")
