"""Configurations on disk, as YAML or JSON. PyYAML is an extra: it is looked up when the first file is."""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from textwrap import indent
from types import ModuleType
from typing import Any

from rl_framework.checkpoints.file_system import flush
from rl_framework.errors import ArchiveError, InvalidInputError, MissingArchiveError, MissingExtraError
from rl_framework.launch.config_fields import ConfigField, config_fields, nested_tree
from rl_framework.launch.value_types import to_plain, type_name

YAML_SUFFIXES = (".yaml", ".yml")
STEP = "  "
SUFFIXES = (*YAML_SUFFIXES, ".json")


def read_mapping(path: Path, config_class: type) -> dict[str, Any]:
    """What a file says of a configuration; names with dots become mappings in mappings.

    Raises:
        InvalidInputError: As for `read_plain`, or a name is given twice.
        RLFrameworkError: As for `read_plain`.
    """
    return nested_tree(read_plain(path), {each.name for each in config_fields(config_class)})


def read_plain(path: Path) -> dict[str, Any]:
    """The names and values in a file, as they stand there.

    Raises:
        MissingArchiveError: There is no such file.
        InvalidInputError: It is neither YAML nor JSON by its name or its content, or not a mapping.
        MissingExtraError: It is YAML, and PyYAML is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InvalidInputError(f"A configuration is a file ending in {', '.join(SUFFIXES)}; got {path}.")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MissingArchiveError(f"The configuration {path} cannot be read: {error}.") from error
    value = (
        _yaml_text().parse(text, str(path)) if path.suffix.lower() in YAML_SUFFIXES else _parse_json(text, str(path))
    )
    if not isinstance(value, Mapping):
        raise InvalidInputError(f"{path} holds {type(value).__name__}, expected names and values.")
    return dict(value)


def dump_yaml(value: Any) -> str:
    """A value as YAML, in the order in which it was given.

    Raises:
        InvalidInputError: It holds something that no file can hold.
        MissingExtraError: PyYAML is not installed.
    """
    text: str = _yaml_text().dump(to_plain(value))
    return text


def sample_yaml(config_class: type) -> str:
    """A file with every field of a configuration at its default, and what it is and may be as a comment.

    Fields without a default are commented out: whoever fills the file in has to say them.
    """
    heading = (config_class.__doc__ or config_class.__name__).strip().splitlines()[0]
    return "\n".join([f"# {heading}", *_sample_lines(config_fields(config_class))]) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write a file so that readers find the old one or the new one, whole.

    Raises:
        ArchiveError: It cannot be written.
    """
    staging = path.with_name(f".{path.name}.{secrets.token_hex(6)}.saving")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staging.write_text(text, encoding="utf-8")
        flush(staging)
        staging.replace(path)
        flush(path.parent)
    except OSError as error:
        raise ArchiveError(f"Cannot write {path}: {error}") from error
    finally:
        with suppress(OSError):
            staging.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a plain value as JSON, whole or not at all.

    Raises:
        ArchiveError: It cannot be written.
    """
    write_text(path, json.dumps(value, indent=2) + "\n")


def _sample_lines(fields: Sequence[ConfigField]) -> Iterator[str]:
    """Of each field a comment and a line; those of a nested configuration below its name, one step further in."""
    above: list[str] = []
    for each in fields:
        *parents, name = each.name.split(".")
        for depth, parent in enumerate(parents):
            if parents[: depth + 1] != above[: depth + 1]:
                yield indent(f"{'# ' if each.absent else ''}{parent}:", STEP * depth)
        above = parents
        yield indent(f"# {_comment_on(each)}\n{_sample_line(each, name)}", STEP * len(parents))


def _sample_line(item: ConfigField, name: str) -> str:
    if item.default is dataclasses.MISSING:
        return f"# {name}:"
    return indent(dump_yaml({name: item.default}).rstrip(), "# " if item.absent else "")


def _comment_on(item: ConfigField) -> str:
    kind = f"({type_name(item.kind)}{', needed' if item.default is dataclasses.MISSING else ''})"
    search = "" if item.search is None else f"Tuned within {item.search}."
    return " ".join(filter(None, (item.description, kind, search)))


def _parse_json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{name} is not JSON: {error}.") from error


def _yaml_text() -> ModuleType:
    try:
        from rl_framework.launch import yaml_text
    except ImportError as error:
        raise MissingExtraError("A configuration in YAML", "tune") from error
    return yaml_text
