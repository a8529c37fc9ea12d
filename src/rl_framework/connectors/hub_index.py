"""The list, kept in the repository itself, of the files that a push has brought: what is ours to replace and to pull.

A repository holds more than an agent: the card that its owner wrote, reports, checkpoints. Only what the list names
is deleted by a later push, and only that comes back as the agent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rl_framework.connectors.hub_files import check_paths
from rl_framework.errors import CorruptArchiveError, NewerFormatError

FORMAT_VERSION = 1
INDEX_FILE = ".rl_framework.json"
LARGEST_INDEX = 32 * 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class HubIndex:
    """What one push has brought.

    Attributes:
        push: Its id.
        files: Paths below the folder that the index lies in.
    """

    push: str
    files: tuple[str, ...]

    @classmethod
    def of(cls, push_id: str, files: Iterable[str]) -> HubIndex:
        """The index of a push."""
        return cls(push=push_id, files=tuple(sorted(files)))

    def to_bytes(self) -> bytes:
        """As it stands in the repository."""
        content = {"format_version": FORMAT_VERSION, "push": self.push, "files": list(self.files)}
        return (json.dumps(content, indent=1) + "\n").encode()

    @classmethod
    def read(cls, file: Path, repository: str) -> HubIndex:
        """The index in a downloaded file.

        Raises:
            CorruptArchiveError: It is none.
            NewerFormatError: A newer version of this library has written it.
            UnsafeArchiveError: It names files outside its folder.
        """
        where = f"the list {INDEX_FILE} of {repository}"
        check_index_size(file.stat().st_size, repository)
        try:
            content = json.loads(file.read_bytes())
        except (ValueError, RecursionError) as error:
            raise CorruptArchiveError(f"{where} is damaged: {error}.") from error
        version = content.get("format_version") if isinstance(content, dict) else None
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise NewerFormatError(f"{where} was written by a newer version of rl_framework. Update this one.")
        if version != FORMAT_VERSION or not _is_list_of_text(content.get("files")):
            raise CorruptArchiveError(f"{where} is damaged: it does not list files.")
        check_paths(content["files"], repository)
        return cls(push=str(content.get("push")), files=tuple(content["files"]))


def check_index_size(size: int, repository: str) -> None:
    """Refuse an index that would fill the memory.

    Raises:
        CorruptArchiveError: It would.
    """
    if size > LARGEST_INDEX:
        raise CorruptArchiveError(
            f"The list {INDEX_FILE} of {repository} has {size} bytes, more than the {LARGEST_INDEX} that are read."
        )


def _is_list_of_text(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(part, str) for part in value)
