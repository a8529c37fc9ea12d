"""The Hugging Face Hub as this library uses it: one repository, its commits and their files, through the real client.

`huggingface_hub` retries some requests and not others, waits without an end for an answer, and its `upload_folder`
may split a push into several commits. Here every push is one `create_commit` on a known parent, and waiting ends.
"""

from __future__ import annotations

import re
import socket
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from rl_framework.checkpoints.manifest import library_version
from rl_framework.connectors.hub_files import DIGEST, HubFile, check_digest, check_paths, digest_of
from rl_framework.connectors.hub_index import INDEX_FILE, HubIndex, check_index_size
from rl_framework.connectors.retries import causes_of, is_passing_failure, status_of
from rl_framework.errors import ConnectorError, MissingExtraError, UnreachableServiceError

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo, HfApi

SILENCE_SECONDS = 120.0
CONNECT_SECONDS = 10.0
STALE_STATUSES = (409, 412)
PASSING_ERRORS = {"TimeoutException", "NetworkError", "RemoteProtocolError", "ProxyError"}
COMMIT_HASH = re.compile(r"[0-9a-f]{40}")
TOKEN = re.compile(r"\b(hf|api)_[A-Za-z0-9]{8,}")
PUSH_LINE = "rl_framework push: "


class HubClient:
    """One repository of models on a Hub.

    Args:
        repository: `owner/name`.
        endpoint: The Hub's address; the client's own unless given.
        token: Lets in; None for the one that the client finds (environment, `hf auth login`).

    Raises:
        MissingExtraError: `huggingface_hub` is not installed.
    """

    def __init__(self, repository: str, *, endpoint: str | None = None, token: str | None = None) -> None:
        try:
            from huggingface_hub import HfApi
        except ImportError as error:
            raise MissingExtraError("The Hugging Face Hub", "huggingface") from error
        self.repository = repository
        self._token = token
        self._hub = HfApi(
            endpoint=endpoint, token=token, library_name="rl_framework", library_version=library_version()
        )
        self.endpoint = self._hub.endpoint

    def __repr__(self) -> str:
        return f"HubClient({self.repository!r}, endpoint={self.endpoint!r})"

    @property
    def api(self) -> HfApi:
        """The client, made to give up on a server that says nothing for minutes.

        Raises:
            UnreachableServiceError: The user has told the client to make no requests.
        """
        from huggingface_hub import constants, get_session

        if constants.HF_HUB_OFFLINE:
            raise UnreachableServiceError("HF_HUB_OFFLINE is set, so that nothing is asked of the Hugging Face Hub.")
        session = get_session()
        if session.timeout.read is None:
            session.timeout = SILENCE_SECONDS
        return self._hub

    def redact(self, text: str) -> str:
        """A text without the token in use, and without anything that looks like one."""
        for secret in self._secrets():
            text = text.replace(secret, "<token>")
        return TOKEN.sub("<token>", text)

    def head(self, revision: str) -> str | None:
        """The commit that a branch or tag points to; None if the repository or the branch does not exist."""
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        try:
            return self.commit_of(revision)
        except (RepositoryNotFoundError, RevisionNotFoundError):
            return None

    def commit_of(self, revision: str) -> str:
        """The full hash of the commit that a branch, tag or hash means."""
        found = self.api.repo_info(self.repository, revision=revision).sha
        if found is None or not COMMIT_HASH.fullmatch(found):
            given = self.redact(repr(found))
            raise ConnectorError(f"The Hub gave {given} as the commit of {self.repository}@{revision}.")
        return found

    def create(self, revision: str, *, private: bool) -> None:
        """Make the repository, and the branch in it, unless they exist."""
        self.api.create_repo(self.repository, private=private, exist_ok=True)
        if self.head(revision) is None:
            self.api.create_branch(self.repository, branch=revision, exist_ok=True)

    def files(self, commit: str, folder: str = "") -> dict[str, HubFile]:
        """The files of a commit below a folder, by path; nothing is downloaded.

        Raises:
            UnsafeArchiveError: One has a name or a checksum that must not be used as a path here.
        """
        from huggingface_hub.errors import EntryNotFoundError
        from huggingface_hub.hf_api import RepoFile

        listing = self.api.list_repo_tree(self.repository, path_in_repo=folder or None, recursive=True, revision=commit)
        try:
            found = list(listing)
        except EntryNotFoundError:
            return {}
        check_paths((item.path for item in found if isinstance(item, RepoFile)), self.repository)
        listed = [_hub_file(item) for item in found if isinstance(item, RepoFile)]
        return {file.path: check_digest(file, self.repository) for file in listed}

    def index(self, commit: str, folder: str, files: Mapping[str, HubFile]) -> HubIndex | None:
        """What the last push into a folder has brought, as its commit says; None if there was none.

        It is read past the client's cache, in which a push has no business.
        """
        listed = files.get(folder + INDEX_FILE)
        if listed is None:
            return None
        check_index_size(listed.size, self.repository)
        with tempfile.TemporaryDirectory(prefix="rl_framework-") as passing:
            file = self.api.hf_hub_download(self.repository, folder + INDEX_FILE, revision=commit, cache_dir=passing)
            return HubIndex.read(Path(file), self.repository)

    def commit(
        self,
        revision: str,
        parent: str,
        *,
        additions: Mapping[str, Path | bytes],
        deletions: Iterable[str],
        title: str,
        description: str,
    ) -> CommitInfo:
        """Add and delete files in one commit on top of `parent`; contents are streamed from the disk.

        Raises:
            Exception: The client's own; `is_stale` tells whether the branch has moved on.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        adds = [CommitOperationAdd(path, content) for path, content in sorted(additions.items())]
        # The repository's own .gitignore would silently leave files out.
        self.api.preupload_lfs_files(
            self.repository, adds, revision=revision, free_memory=False, gitignore_content="\n"
        )
        gone = [CommitOperationDelete(path, is_folder=False) for path in sorted(deletions)]
        return self.api.create_commit(
            self.repository,
            [*adds, *gone],
            commit_message=title,
            commit_description=description,
            revision=revision,
            parent_commit=parent,
        )

    def find_push(self, push_id: str, revision: str) -> str | None:
        """The commit that brought a push; None if none did."""
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        self._check_listening()
        with suppress(RepositoryNotFoundError, RevisionNotFoundError):
            for commit in self.api.list_repo_commits(self.repository, revision=revision):
                if PUSH_LINE + push_id in commit.message.splitlines():
                    return commit.commit_id
        return None

    def _check_listening(self) -> None:
        """Fail at once if nobody listens: the client would ask for a list again and again, for most of a minute.

        Raises:
            OSError: No connection.
        """
        parts = urlsplit(self.endpoint)
        if getproxies() or parts.hostname is None:
            return
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname, port), timeout=CONNECT_SECONDS).close()

    def snapshot(self, revision: str, paths: Iterable[str] | None, *, offline: bool = False) -> Path:
        """The folder of the client's cache that holds files of a commit, after those that are missing came.

        Args:
            revision: A full hash; offline also a branch or tag that was fetched before.
            paths: Which files; all if None.
            offline: Whether to do without any request.
        """
        patterns = None if paths is None else [escape(path) for path in paths]
        hub = self._hub if offline else self.api
        found = hub.snapshot_download(
            self.repository, revision=revision, allow_patterns=patterns, local_files_only=offline
        )
        return Path(found)

    def cached_commit_of(self, revision: str) -> str | None:
        """The commit of a branch or tag when it was last fetched by any program; None if it never was."""
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            return self.snapshot(revision, None, offline=True).name
        except LocalEntryNotFoundError:
            return None

    def cached_files(self, commit: str) -> dict[str, HubFile] | None:
        """The files of a commit that any program has fetched before; None if it has not fetched all of them."""
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            folder = self.snapshot(commit, None, offline=True)
        except LocalEntryNotFoundError:
            return None
        return {
            file.path: file for file in (_cached_file(path, folder) for path in folder.rglob("*") if path.is_file())
        }

    def _secrets(self) -> list[str]:
        from huggingface_hub import get_token

        known = {self._token, None if self._token else get_token()}
        return sorted((secret for secret in known if secret), key=len, reverse=True)


def is_stale(error: Exception) -> bool:
    """Whether a commit was refused because its branch has moved on."""
    return any(status_of(part) in STALE_STATUSES for part in causes_of(error))


def is_passing(error: Exception) -> bool:
    """Whether an error of the client may pass by waiting.

    The HTTP library below the client has its own names for broken connections; which library, depends on its version.
    """
    broken = any(kind.__name__ in PASSING_ERRORS for part in causes_of(error) for kind in type(part).__mro__)
    return broken or is_passing_failure(error)


def _cached_file(path: Path, folder: Path) -> HubFile:
    """The client names what it stores by its checksum, and links to it; where it cannot link, the name is lost."""
    real = path.resolve()
    digest = real.name if DIGEST.fullmatch(real.name) else digest_of(real, like="")
    return HubFile(path=path.relative_to(folder).as_posix(), size=real.stat().st_size, digest=digest)


def _hub_file(item: Any) -> HubFile:
    if item.lfs is not None:
        return HubFile(path=item.path, size=int(item.lfs.size), digest=str(item.lfs.sha256))
    return HubFile(path=item.path, size=int(item.size), digest=str(item.blob_id))
