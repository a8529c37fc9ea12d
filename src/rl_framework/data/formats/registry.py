"""The forms of storage by name; each is imported when it is needed."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from rl_framework.data.formats.base import EpisodeFormat
from rl_framework.errors import InvalidInputError, UnknownOptionError

DEFAULT_FORMAT = "rl_framework"
FORMATS = {
    "rl_framework": "rl_framework.data.formats.memory_mapped:FORMAT",
    "imitation": "rl_framework.data.formats.imitation_arrow:FORMAT",
    "imitation_npz": "rl_framework.data.formats.imitation_npz:FORMAT",
    "minari": "rl_framework.data.formats.minari_format:HDF5",
    "minari_arrow": "rl_framework.data.formats.minari_format:ARROW",
    "lerobot": "rl_framework.data.formats.lerobot:FORMAT",
    "d4rl": "rl_framework.data.formats.d4rl:FORMAT",
    "unity": "rl_framework.data.formats.unity_demonstrations:FORMAT",
}
"""Name, which is also the scheme, and `module:attribute`; in the order in which they are asked what a path holds."""


def format_named(name: str) -> EpisodeFormat:
    """The form of a name.

    Raises:
        UnknownOptionError: There is none; the message names those that there are.
    """
    if name not in FORMATS:
        raise UnknownOptionError.of("dataset format", str(name), FORMATS)
    module, _, attribute = FORMATS[name].partition(":")
    return cast(EpisodeFormat, getattr(importlib.import_module(module), attribute))


def recognised_format(path: Path) -> EpisodeFormat | None:
    """The form of what lies at a path, None if nobody knows it."""
    return next((one for one in _all_formats() if one.recognises(path)), None)


def find_format(path: Path) -> EpisodeFormat:
    """The form of what lies at a path.

    Raises:
        InvalidInputError: Nobody knows it.
    """
    found = recognised_format(path)
    if found is None:
        raise InvalidInputError(
            f"{path} is no data set that this library reads. It knows {', '.join(FORMATS)}; put the name in front if "
            f"you know better, e.g. 'd4rl://{path}'."
        )
    return found


def split_scheme(path_or_uri: str) -> tuple[str | None, str]:
    """Name of the form and the rest of `"name://rest"`; None and the whole for a plain path.

    Raises:
        UnknownOptionError: There is no form of that name.
    """
    name, separator, rest = path_or_uri.partition("://")
    if not separator:
        return None, path_or_uri
    if name not in FORMATS:
        raise UnknownOptionError.of("dataset format", name, FORMATS)
    return name, rest


def _all_formats() -> Iterator[EpisodeFormat]:
    return (format_named(name) for name in FORMATS)
