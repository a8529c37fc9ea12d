"""What a loopback Hub keeps: repositories with branches, commits and files."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

LFS_ENDINGS = (".zip", ".pkl", ".pth", ".pt", ".onnx", ".safetensors", ".npz", ".mp4", ".bin", ".ckpt", ".h5")
LARGEST_REGULAR_FILE = 10 * 2**20
FIRST_MESSAGE = "initial commit"


class StaleParentError(Exception):
    """The branch does not point to the parent that a commit was made for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredFile:
    """One file of a commit.

    The announced size and digest are the content's own, unless a test has the repository lie.

    Attributes:
        content: The bytes, or the file on disk that holds them.
        large: Whether it is kept by LFS.
        size: Announced bytes.
        digest: Announced SHA-256 of a large file, git's SHA-1 of any other.
        kind: "file", or what else a tree may list.
    """

    content: bytes | Path
    large: bool
    size: int
    digest: str
    kind: str = "file"

    @classmethod
    def of(cls, content: bytes, *, large: bool) -> StoredFile:
        """An honest file."""
        digest = hashlib.sha256(content).hexdigest() if large else git_digest(content)
        return cls(content=content, large=large, size=len(content), digest=digest)

    def read(self) -> bytes:
        """Its bytes."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


@dataclass(frozen=True, kw_only=True, slots=True)
class HubCommit:
    """One commit.

    Attributes:
        oid: Its name, 40 hexadecimal digits.
        parent: The commit before it; None for the first.
        title: First line of its message.
        description: The rest.
        files: All files after it, by path.
    """

    oid: str
    parent: str | None
    title: str
    description: str
    files: Mapping[str, StoredFile]


@dataclass
class HubRepository:
    """One repository of models.

    Attributes:
        name: `owner/name`.
        private: Whether it can only be read with the token.
        commits: By oid.
        branches: The commit that each points to.
    """

    name: str
    private: bool = False
    commits: dict[str, HubCommit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        if not self.branches:
            attributes = StoredFile.of(b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n", large=False)
            first = self._record(None, FIRST_MESSAGE, "", {".gitattributes": attributes})
            self.branches["main"] = first.oid

    def find(self, revision: str) -> HubCommit | None:
        """The commit that a branch or an oid means."""
        return self.commits.get(self.branches.get(revision, revision))

    def history(self, revision: str = "main") -> list[HubCommit]:
        """The commits of a branch, newest first."""
        found: list[HubCommit] = []
        commit = self.find(revision)
        while commit is not None:
            found.append(commit)
            commit = self.commits.get(commit.parent) if commit.parent else None
        return found

    def pushes(self, revision: str = "main") -> list[HubCommit]:
        """The commits that somebody has pushed, oldest first."""
        return [commit for commit in reversed(self.history(revision)) if commit.title != FIRST_MESSAGE]

    def contents(self, revision: str = "main") -> dict[str, bytes]:
        """The files at a revision, by path."""
        commit = self.find(revision)
        return {} if commit is None else {path: file.read() for path, file in commit.files.items()}

    def commit(
        self,
        files: Mapping[str, StoredFile | bytes],
        *,
        title: str = "by someone else",
        description: str = "",
        deleted: Iterable[str] = (),
        branch: str = "main",
        parent: str | None = None,
    ) -> HubCommit:
        """Add and delete files on top of a branch.

        Raises:
            StaleParentError: A parent is given and the branch points elsewhere.
            KeyError: There is no such branch, or no such file to delete.
        """
        with self.lock:
            head = self.commits[self.branches[branch]]
            if parent is not None and not head.oid.startswith(parent):
                raise StaleParentError(head.oid)
            after = dict(head.files)
            for path in deleted:
                del after[path]
            after |= {path: _stored(path, content) for path, content in files.items()}
            commit = self._record(head.oid, title, description, after)
            self.branches[branch] = commit.oid
            return commit

    def alter(self, path: str, **changes: object) -> None:
        """Have the newest commit lie about a file: another `size`, `digest`, `kind`, or other `content`."""
        head = self.commits[self.branches["main"]]
        file = replace(head.files[path], **changes)  # type: ignore[arg-type]  # the fields are checked by replace
        self.commits[head.oid] = replace(head, files={**head.files, path: file})

    def _record(self, parent: str | None, title: str, description: str, files: Mapping[str, StoredFile]) -> HubCommit:
        listing = {path: file.digest for path, file in sorted(files.items())}
        text = json.dumps([parent, title, description, listing, len(self.commits)])
        commit = HubCommit(
            oid=hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(),
            parent=parent,
            title=title,
            description=description,
            files=dict(files),
        )
        self.commits[commit.oid] = commit
        return commit


def is_large(path: str, size: int) -> bool:
    """Whether the Hub keeps a file by LFS: by its ending, or because it is above 10 MB."""
    return path.endswith(LFS_ENDINGS) or size > LARGEST_REGULAR_FILE


def git_digest(content: bytes) -> str:
    """Git's name for a blob."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _stored(path: str, content: StoredFile | bytes) -> StoredFile:
    if isinstance(content, StoredFile):
        return content
    return StoredFile.of(content, large=is_large(path, len(content)))
