"""Settings of parts that come in kinds: as records, or as JSON objects whose `kind` says which record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from typing import Any, TypeVar

from rl_framework.algorithms.base import make_config
from rl_framework.errors import InvalidInputError, UnknownOptionError

Config = TypeVar("Config", bound="PartConfig")
Record = TypeVar("Record")


@dataclass(frozen=True, kw_only=True, slots=True)
class PartConfig:
    """Base of the settings of a part that comes in kinds.

    Attributes:
        kind: Tells the kinds apart in JSON: a name of this library, or the class itself for users' own.
    """

    kind: Any = None

    def __post_init__(self) -> None:
        if self.kind is None:
            object.__setattr__(self, "kind", type(self))


def as_part_config(value: Any, base: type[Config], known: Mapping[str, type[Config]], *, what: str) -> Config:
    """Settings from a record, the name of a kind, or the JSON form of a record.

    Args:
        value: What is given.
        base: What the record must be.
        known: The kinds of this library.
        what: What it is, for messages.

    Raises:
        UnknownOptionError: There is no such kind, or no such setting of it.
        InvalidInputError: It is none of the three, or a setting is out of range.
    """
    if isinstance(value, base):
        return value
    if isinstance(value, str):
        value = {"kind": value}
    if not isinstance(value, Mapping) or "kind" not in value:
        raise InvalidInputError(
            f"{what} must be {', '.join((f'a {base.__name__}', *map(repr, known)))}, or a mapping with 'kind' and "
            f"settings; got {value!r}."
        )
    kind = value["kind"]
    if isinstance(kind, str) and kind not in known:
        raise UnknownOptionError.of(what, kind, known)
    chosen = known[kind] if isinstance(kind, str) else kind
    if not (isinstance(chosen, type) and issubclass(chosen, base) and is_dataclass(chosen)):
        raise InvalidInputError(f"The kind of {what} must be a class of {base.__name__}, got {kind!r}.")
    settings = {name: setting for name, setting in value.items() if name != "kind"}
    return make_config(chosen, settings)


def as_record(value: Any, record: type[Record], *, what: str) -> Record:
    """Settings of which there is one kind, from a record or its JSON form.

    Args:
        value: What is given.
        record: What it shall be.
        what: What it is, for messages.

    Raises:
        UnknownOptionError: There is no such setting.
        InvalidInputError: It is neither, or a setting is out of range.
    """
    if isinstance(value, record):
        return value
    if not isinstance(value, Mapping):
        raise InvalidInputError(f"{what} must be a {record.__name__} or a mapping of its fields, got {value!r}.")
    return make_config(record, value)
