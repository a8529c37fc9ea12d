"""What a saved agent is: the record beside its files that says what made them and proves that they are whole."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timezone
from functools import cache
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from rl_framework.checkpoints.plain_values import decode, dump_json, encode, parse_json
from rl_framework.errors import (
    ArchiveError,
    CorruptArchiveError,
    MissingArchiveError,
    NewerFormatError,
    UnsafeArchiveError,
)

FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"
LIBRARIES = (
    "rl_framework", "numpy", "torch", "gymnasium", "stable_baselines3", "sb3_contrib", "imitation", "d3rlpy",
)  # fmt: skip
CHUNK_BYTES = 2**20


@cache
def library_version() -> str:
    """The version of this library, `0` where it runs from a folder that was never installed."""
    return _version_of("rl_framework") or "0"


def library_versions() -> dict[str, str]:
    """Versions of Python, this library and, where installed, those under it; none of them is imported."""
    found = {name: _version_of(name) for name in LIBRARIES}
    installed = {name: version for name, version in found.items() if version is not None}
    return {"python": platform.python_version(), "rl_framework": library_version()} | installed


def utc_now() -> str:
    """The present time in ISO form, UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The description of a saved agent.

    Dictionaries hold plain values: JSON, and beyond it tuples, bytes, NumPy numbers, NaN and infinities, all of
    which come back as they were.

    Attributes:
        kind: Which kind of agent it is, a name of the catalog.
        algorithm: The algorithm's class as `module:name`.
        parameters: The algorithm's parameters.
        options: The agent's own options.
        observation_space: What it sees, as `core.spaces.space_to_json` writes it; None where nothing is known.
        action_space: What it does, likewise.
        timesteps: Environment steps that it has learned from.
        library_versions: Versions at the time of writing.
        created: Time of writing, ISO, UTC.
        format_version: Version of the folder's layout.
        files: Relative path of every file that belongs to it, with `size` in bytes and `sha256`.
        notes: Anything else worth keeping.
    """

    kind: str
    algorithm: str
    parameters: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    observation_space: dict[str, Any] | None = None
    action_space: dict[str, Any] | None = None
    timesteps: int = 0
    library_versions: dict[str, str] = field(default_factory=library_versions)
    created: str = field(default_factory=utc_now)
    format_version: int = FORMAT_VERSION
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> Manifest:
        """Write `manifest.json` into a folder, over everything that lies in it, as the last of its files.

        Returns:
            The manifest with its `files` filled in.

        Raises:
            ArchiveError: A dictionary holds something that is not a plain value, named by its path.
            OSError: The folder cannot be read or written.
        """
        complete = replace(self, files=_describe_files(folder))
        node = {item.name: encode(getattr(complete, item.name), (item.name,)) for item in fields(self)}
        text = dump_json({**node, "checksum": _checksum(node)}, indent=1)
        (folder / MANIFEST_FILE).write_text(text + "\n", encoding="ascii")
        return complete

    @classmethod
    def read(cls, folder: Path, verify: bool = True) -> Manifest:
        """The manifest of a folder.

        Args:
            folder: The saved agent.
            verify: Also check every file's presence, size and content.

        Raises:
            MissingArchiveError: The folder holds no manifest.
            NewerFormatError: Only a newer version of this library reads it.
            CorruptArchiveError: It was altered or truncated, or a field is missing or unknown.
            UnsafeArchiveError: It names files outside its folder.
        """
        node = _read_node(folder / MANIFEST_FILE)
        _check_format(node, folder)
        manifest = cls(**_checked_fields(node, folder))
        if verify:
            manifest.check_files(folder)
        return manifest

    def check_files(self, folder: Path, *, contents: bool = True) -> None:
        """Check that every file is there.

        Args:
            folder: The saved agent.
            contents: Also compare the contents' checksums, which reads every file once.

        Raises:
            CorruptArchiveError: A file is missing, or has another size or content.
            UnsafeArchiveError: A path leaves the folder.
        """
        for name, expected in self.files.items():
            check_inside(name, str(folder))
            file = folder / name
            if not file.is_file():
                raise CorruptArchiveError(f"The saved agent {folder} is incomplete: {name} is missing.")
            size = file.stat().st_size
            if size != expected["size"]:
                raise CorruptArchiveError(
                    f"The saved agent {folder} is damaged: {name} has {size} bytes, expected {expected['size']}."
                )
            if contents and _sha256(file) != expected["sha256"]:
                raise CorruptArchiveError(
                    f"The saved agent {folder} is damaged: the content of {name} was altered after it was saved."
                )


def is_complete(folder: Path) -> bool:
    """Whether a folder holds a saved agent with all its files in their sizes; contents are not read."""
    try:
        Manifest.read(folder, verify=False).check_files(folder, contents=False)
    except NewerFormatError:
        return True
    except ArchiveError:
        return False
    return True


def check_inside(name: str, where: str) -> None:
    """Refuse a relative path that leaves its folder, on any operating system.

    Raises:
        UnsafeArchiveError: It is absolute, has a drive letter or backslashes, or climbs with `..`.
    """
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or any(letter in name for letter in "\\:\0"):
        raise UnsafeArchiveError(f"{where} names the file {name!r}, which lies outside of it. Nothing was read.")


def _version_of(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def _describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file != folder / MANIFEST_FILE)
    return {
        file.relative_to(folder).as_posix(): {"size": file.stat().st_size, "sha256": _sha256(file)} for file in files
    }


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _checksum(node: Mapping[str, Any]) -> str:
    """Of the fields' canonical form, so that a manifest that was laid out anew stays valid."""
    return hashlib.sha256(dump_json(dict(sorted(node.items()))).encode("ascii")).hexdigest()


def _read_node(file: Path) -> dict[str, Any]:
    try:
        text = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingArchiveError(f"No saved agent in {file.parent}: it holds no {file.name}.") from error
    except OSError as error:
        raise ArchiveError(f"The manifest of {file.parent} cannot be read: {error}.") from error
    node = parse_json(text, str(file))
    if not isinstance(node, dict):
        raise CorruptArchiveError(f"{file} is damaged: it holds a {type(node).__name__}, expected an object.")
    return node


def _check_format(node: dict[str, Any], folder: Path) -> None:
    version = node.get("format_version")
    if type(version) is not int or version < 1:
        raise CorruptArchiveError(f"The manifest of {folder} is damaged: its format_version is {version!r}.")
    if version > FORMAT_VERSION:
        versions = node.get("library_versions")
        writer = versions.get("rl_framework", "a newer one") if isinstance(versions, dict) else "a newer one"
        raise NewerFormatError(
            f"The saved agent {folder} has format {version}, written by rl_framework {writer}. This version, "
            f"{library_version()}, reads formats up to {FORMAT_VERSION}. Use rl_framework {writer} or later: "
            "pip install --upgrade rl_framework"
        )


def _checked_fields(node: dict[str, Any], folder: Path) -> dict[str, Any]:
    known = {item.name: item.type for item in fields(Manifest)}
    checksum = node.pop("checksum", None)
    for name in known:
        if name not in node:
            raise CorruptArchiveError(f"The manifest of {folder} is incomplete: the field {name!r} is missing.")
    for name in node:
        if name not in known:
            raise CorruptArchiveError(f"The manifest of {folder} has an unknown field {name!r}.")
    values = {name: decode(part, (name,)) for name, part in node.items()}
    for name, value in values.items():
        _check_type(name, value, folder)
    if checksum != _checksum({name: node[name] for name in known}):
        raise CorruptArchiveError(f"The manifest of {folder} was altered after it was saved: its checksum differs.")
    return values


_TYPES: dict[str, tuple[type, ...]] = {
    "kind": (str,),
    "algorithm": (str,),
    "created": (str,),
    "timesteps": (int,),
    "format_version": (int,),
    "observation_space": (dict, type(None)),
    "action_space": (dict, type(None)),
}


def _check_type(name: str, value: Any, folder: Path) -> None:
    """Every field that is not named in the table is a dictionary."""
    allowed = _TYPES.get(name, (dict,))
    if type(value) not in allowed:
        wanted = " or ".join(kind.__name__ for kind in allowed)
        raise CorruptArchiveError(
            f"The manifest of {folder} is damaged: the field {name!r} is a {type(value).__name__}, expected {wanted}."
        )
    if name == "files":
        _check_file_table(value, folder)


def _check_file_table(files: dict[Any, Any], folder: Path) -> None:
    for name, entry in files.items():
        if not isinstance(name, str) or not isinstance(entry, dict) or set(entry) != {"size", "sha256"}:
            raise CorruptArchiveError(f"The manifest of {folder} is damaged: the field 'files' at {name!r}.")
