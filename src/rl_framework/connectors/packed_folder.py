"""A folder as one file for services that keep files, and back: checked, and whole at its place or not there."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from rl_framework.checkpoints.archive import replace_in_one_step, save_archive
from rl_framework.checkpoints.zip_files import pack, unpack
from rl_framework.connectors.user_folders import cache_folder
from rl_framework.errors import CorruptArchiveError, UnsafeArchiveError

CACHE_VARIABLE = "RL_FRAMEWORK_CACHE"


@dataclass(frozen=True, slots=True)
class PackedFolder:
    """A folder in a zip file.

    Attributes:
        path: The file, which is there until its context ends.
        sha256: Checksum of the file, in hexadecimal digits.
    """

    path: Path
    sha256: str


@contextmanager
def packed(folder: Path, name: str) -> Iterator[PackedFolder]:
    """A folder, zipped into a temporary file of this name."""
    with TemporaryDirectory(prefix="rl_framework-", ignore_cleanup_errors=True) as temporary:
        path = Path(temporary) / name
        pack(folder, path)
        yield PackedFolder(path, digest_of(path))


def place_packed(file: Path, destination: Path | None, cache_name: str, sha256: str | None) -> Path:
    """Extract a zip file that was downloaded, see `place_folder`.

    Args:
        file: The zip file.
        destination: Where to; None for a copy in this library's cache.
        cache_name: The copy's name there, below the service's.
        sha256: What its checksum should be, where the service has noted it.

    Raises:
        CorruptArchiveError: It is not what was uploaded.
        UnsafeArchiveError: It would write outside of its folder, or fill the disk. Nothing was written.
    """
    if sha256 is not None and digest_of(file) != sha256:
        raise CorruptArchiveError(f"{file.name} is not what was uploaded: its checksum differs.")
    with TemporaryDirectory(prefix="rl_framework-", ignore_cleanup_errors=True) as temporary:
        return place_folder(unpack(file, Path(temporary)), destination, cache_name)


def place_folder(folder: Path, destination: Path | None, cache_name: str) -> Path:
    """Copy a folder that was downloaded to where it is wanted; it appears whole, and replaces an older one.

    Raises:
        UnsafeArchiveError: It holds links. Nothing was written.
        InvalidInputError: Something that is no saved agent is at the destination.
    """
    for part in folder.rglob("*"):
        if part.is_symlink():
            raise UnsafeArchiveError(f"The download holds a link, {part.name!r}. Nothing was written.")
    if destination is not None:
        save_archive(destination, partial(_copy_into, folder))
        return destination
    copy = Path(os.environ.get(CACHE_VARIABLE) or cache_folder()) / cache_name
    replace_in_one_step(copy, partial(_copy_into, folder), own_files=_all_files)
    return copy


def digest_of(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def digest_of_folder(folder: Path) -> str:
    """A checksum of all files of a folder with their names, in hexadecimal digits."""
    digest = hashlib.sha256()
    for file in sorted(part for part in folder.rglob("*") if part.is_file()):
        digest.update(f"{file.relative_to(folder).as_posix()}\0{digest_of(file)}\n".encode())
    return digest.hexdigest()


def _copy_into(source: Path, target: Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True)


def _all_files(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*")}
