"""Files of a Hub repository: whether their names may be used here, and their contents are what was announced."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rl_framework.checkpoints.manifest import check_inside
from rl_framework.errors import CorruptArchiveError, UnsafeArchiveError

CHUNK_BYTES = 2**20
MOST_FILES = 100_000
SHA256_DIGITS = 64
DIGEST = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


@dataclass(frozen=True, kw_only=True, slots=True)
class HubFile:
    """What a commit says about one of its files.

    Attributes:
        path: Where it lies in the repository.
        size: Bytes of its content.
        digest: SHA-256 of the content of a large file (LFS), git's SHA-1 of any other, in hexadecimal digits.
    """

    path: str
    size: int
    digest: str


def check_paths(paths: Iterable[str], repository: str) -> None:
    """Refuse names that would write outside a folder, or over each other where capitals do not count.

    Raises:
        UnsafeArchiveError: It names the offender.
    """
    seen: dict[str, str] = {}
    for path in paths:
        check_inside(path, repository)
        if any(part in (".", "") for part in path.split("/")):
            raise UnsafeArchiveError(f"{repository} names the file {path!r}, which is no plain path. Nothing was read.")
        twin = seen.setdefault(path.casefold(), path)
        if twin != path:
            raise UnsafeArchiveError(
                f"{repository} names the files {twin!r} and {path!r}, which are one where capitals do not count. "
                "Nothing was read."
            )
    if len(seen) > MOST_FILES:
        raise UnsafeArchiveError(f"{repository} has {len(seen)} files, more than the {MOST_FILES} that are read.")


def check_digest(file: HubFile, repository: str) -> HubFile:
    """Refuse a checksum that is none: clients use it as the name of a file.

    Raises:
        UnsafeArchiveError: It is something else.
    """
    if not DIGEST.fullmatch(file.digest) or file.size < 0:
        raise UnsafeArchiveError(f"{repository} gives {file.digest!r} as checksum of {file.path!r}. Nothing was read.")
    return file


def check_content(file: Path, expected: HubFile, repository: str, storage: Path) -> None:
    """Compare a downloaded file with what its commit says.

    Args:
        file: The copy in the client's cache, perhaps a link to where it keeps contents.
        expected: What the commit says.
        repository: Its name, for messages.
        storage: The repository's folder in the cache, which no link may leave.

    Raises:
        UnsafeArchiveError: It is a link that leads out of the cache, or no file.
        CorruptArchiveError: Its size or content is another.
    """
    real = file.resolve()
    if not real.is_relative_to(storage.resolve()) or not real.is_file():
        raise UnsafeArchiveError(
            f"{repository}: {expected.path!r} is a link that leads out of the download, or no file. It was not read."
        )
    size = real.stat().st_size
    if size != expected.size:
        raise CorruptArchiveError(
            f"{repository}: {expected.path!r} arrived with {size} bytes, but the commit says {expected.size}. Nothing "
            f"of it was used. If the client's copy {file} was damaged, delete it and try again."
        )
    if digest_of(real, like=expected.digest) != expected.digest:
        raise CorruptArchiveError(
            f"{repository}: the content of {expected.path!r} is not what the commit says (its checksum differs). "
            f"Nothing of it was used. If the client's copy {file} was damaged, delete it and try again."
        )


def digest_of(file: Path, *, like: str) -> str:
    """The checksum of a file, of the kind of another one: SHA-256, or git's SHA-1 of a blob.

    Source: git's object format: the word blob, the size, a zero byte, the content.
    """
    if len(like) == SHA256_DIGITS:
        digest = hashlib.sha256()
    else:
        digest = hashlib.sha1(f"blob {file.stat().st_size}\0".encode(), usedforsecurity=False)
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def changed_paths(old: Mapping[str, HubFile], new: Mapping[str, HubFile]) -> set[str]:
    """Paths that are in one of two commits only, or with another content."""
    return {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}
