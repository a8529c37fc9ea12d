"""Getting an agent from a Hub repository: pinned to a commit, checked against it, copied out of the client's cache.

What was checked once is noted in this library's cache folder. With the note, a pinned commit comes from the client's
cache without any request, and is checked again all the same.

```
<cache>/huggingface/<repository>-<digest>/
    refs.json                   the commits that branches and tags pointed to when they were last asked for
    <commit>/place-<place>.json the files of a place with sizes and checksums; `file-<name>` for a single one
    <commit>/names.json         the paths of all its files
    <commit>/copy-<place>/      a copy, for callers who name no destination
```
"""

from __future__ import annotations

import json
import logging
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rl_framework.checkpoints.archive import replace_in_one_step, save_archive
from rl_framework.connectors.hub_client import COMMIT_HASH, HubClient
from rl_framework.connectors.hub_files import HubFile, check_content, check_paths
from rl_framework.connectors.hub_index import INDEX_FILE, HubIndex, check_index_size
from rl_framework.errors import ArchiveError, ConnectorError, CorruptArchiveError, UnreachableServiceError

NAMES_SHOWN = 10
LEFT_OUT = frozenset({".gitattributes", ".gitignore", INDEX_FILE})

_log = logging.getLogger(__name__)

Files = dict[str, HubFile]
Result = TypeVar("Result")


class Ask(Protocol):
    """Does something with a client that may be out of reach."""

    def __call__(self, action: Callable[[], Result], what: str) -> Result:
        """What the action gives; `what` names it in errors."""


class HubPull:
    """Pulls from one repository.

    Args:
        client: The repository.
        cache: This library's cache folder.
        ask: Does something with the client, again if need be, and raises `UnreachableServiceError` if that is of no
            use now.
    """

    def __init__(self, client: HubClient, cache: Path, ask: Ask) -> None:
        self._client = client
        self._ask = ask
        name = client.repository.replace("/", "--")
        digest = sha256(client.endpoint.encode()).hexdigest()[:8]
        self._folder = cache / "huggingface" / f"{name}-{digest}"

    def folder(self, destination: Path | None, revision: str, place: str = "") -> Path:
        """The files of a push, at a destination or in the cache.

        Args:
            destination: Where to put them; None for a copy in this library's cache.
            revision: A commit's hash, a branch or a tag.
            place: The folder of the repository that was pushed into, with a slash at its end; empty for its root.

        Raises:
            ConnectorError: There is nothing in that place.
            UnsafeArchiveError: It has names or links that lead elsewhere. Nothing was written to the destination.
            CorruptArchiveError: A file is not what the commit says. Nothing was written to the destination.
        """
        commit, files = self._pinned(revision, place)
        source = self._checked_snapshot(commit, files)
        write = partial(_copy, source / place, [path[len(place) :] for path in files])
        if destination is not None:
            save_archive(destination, write)
            return destination
        copy = self._folder / commit / f"copy-{_file_name(place)}"
        replace_in_one_step(copy, partial(_write_new, write), own_files=_all_files)
        return copy

    def file(self, name: str, revision: str) -> Path:
        """One file of the repository, where the client keeps it; not to be changed.

        Raises:
            ConnectorError: There is no such file.
            UnsafeArchiveError: Its name or a link leads elsewhere.
            CorruptArchiveError: It is not what the commit says.
        """
        check_paths([name], self._client.repository)
        commit, files = self._pinned(revision, "", only=name)
        return self._checked_snapshot(commit, files) / name

    def find(self, name: str, revision: str) -> Path | None:
        """As `file`, but None if there is no such file, or no such repository, branch or commit."""
        check_paths([name], self._client.repository)
        commit = self._client.head(revision)
        return self.file(name, commit) if commit is not None and name in self._client.files(commit) else None

    def commit_of(self, revision: str) -> str:
        """The commit that a hash, branch or tag means: now, or, if nobody answers, when it was last asked for."""
        return revision if COMMIT_HASH.fullmatch(revision) else self._commit_of(revision)

    def names(self, revision: str) -> list[str]:
        """The paths of all files of a commit, noted so that they need no request again."""
        commit = self.commit_of(revision)
        note = self._folder / commit / "names.json"
        names = _read_json(note).get("names")
        if not isinstance(names, list):
            names = sorted(self._known_files(commit))
            _write_json(note, {"names": names})
        check_paths(names, self._client.repository)
        return names

    def _pinned(self, revision: str, place: str, only: str | None = None) -> tuple[str, Files]:
        """The commit, and what it says about the wanted files; without a request if the commit is known."""
        commit = self.commit_of(revision)
        note = self._folder / commit / (f"file-{_file_name(only)}" if only else f"place-{_file_name(place)}.json")
        files = _read_note(note)
        if files is None:
            known = self._known_files(commit)
            files = self._wanted(commit, place, known) if only is None else self._one(commit, only, known)
            _write_json(note, {path: asdict(file) for path, file in files.items()})
        return commit, files

    def _commit_of(self, revision: str) -> str:
        """The commit that a branch or tag means: now, or, if nobody answers, when it was last asked for."""
        refs = self._folder / "refs.json"
        known = _read_json(refs)
        try:
            commit = self._ask(
                lambda: self._client.commit_of(revision), f"look up {self._client.repository}@{revision}"
            )
        except UnreachableServiceError as error:
            seen = known.get(revision) or self._client.cached_commit_of(revision)
            if not isinstance(seen, str) or not COMMIT_HASH.fullmatch(seen):
                raise
            _log.warning("%s The commit %s is taken from the cache, the newest known here.", error, seen)
            return seen
        if known.get(revision) != commit:
            _write_json(refs, {**known, revision: commit})
        return commit

    def _known_files(self, commit: str) -> Files:
        """All files of a commit: asked for, or, if nobody answers, those that the client has fetched before."""
        try:
            return self._ask(lambda: self._client.files(commit), f"list {self._client.repository}@{commit}")
        except UnreachableServiceError:
            cached = self._client.cached_files(commit)
            if cached is None:
                raise
            return cached

    def _one(self, commit: str, name: str, known: Files) -> Files:
        if name not in known:
            raise ConnectorError(f"{self._client.repository}@{commit} has no file {name!r}.")
        return {name: known[name]}

    def _wanted(self, commit: str, place: str, known: Files) -> Files:
        """Of all files those that the index lists; without an index all but the Hub's own."""
        index, listed = None, known.get(place + INDEX_FILE)
        if listed is not None:
            check_index_size(listed.size, self._client.repository)
            source = self._checked_snapshot(commit, {listed.path: listed})
            index = HubIndex.read(source / listed.path, self._client.repository)
        wanted = self._paths_of(index, place, known)
        if not wanted:
            where = f"{self._client.repository}@{commit}"
            raise ConnectorError(f"Nothing was pushed to {where}{f' below {place}' if place else ''}.")
        return {path: known[path] for path in wanted}

    def _paths_of(self, index: HubIndex | None, place: str, known: Mapping[str, HubFile]) -> list[str]:
        if index is None:
            return [path for path in known if path.startswith(place) and path[len(place) :] not in LEFT_OUT]
        wanted = [place + path for path in index.files]
        missing = [path for path in wanted if path not in known]
        if missing:
            _log.warning(
                "%s: %s was deleted by someone since it was pushed.", self._client.repository, ", ".join(missing)
            )
        return [path for path in wanted if path in known]

    def _checked_snapshot(self, commit: str, files: Files) -> Path:
        """The snapshot in the client's cache, each wanted file compared with what the commit says."""
        source = self._snapshot(commit, files)
        storage = source.parents[1]
        for path, file in files.items():
            check_content(source / path, file, self._client.repository, storage)
        return source

    def _snapshot(self, commit: str, files: Files) -> Path:
        cached = self._cached_snapshot(commit, files)
        if cached is not None:
            return cached
        try:
            return self._client.snapshot(commit, files)
        except OSError as error:
            if "Consistency check failed" not in str(error):
                raise
            names = ", ".join(list(files)[:NAMES_SHOWN])
            raise CorruptArchiveError(
                f"{self._client.repository}: one of {names} arrived with another size than the commit says. Nothing "
                f"of it was used. {error}"
            ) from error

    def _cached_snapshot(self, commit: str, files: Files) -> Path | None:
        """The snapshot if the client's cache holds all of these files; no request is made."""
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            source = self._client.snapshot(commit, files, offline=True)
        except LocalEntryNotFoundError:
            return None
        return source if all((source / path).is_file() for path in files) else None


def _copy(source: Path, paths: list[str], target: Path) -> None:
    for path in paths:
        copy = target / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / path, copy)


def _write_new(write: Any, target: Path) -> None:
    target.mkdir()
    write(target)


def _all_files(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*")}


def _file_name(place: str) -> str:
    return place.strip("/").replace("%", "%25").replace("/", "%2F")


def _read_note(file: Path) -> Files | None:
    content = _read_json(file)
    try:
        files = {path: HubFile(**fields) for path, fields in content.items()}
        check_paths(files, str(file))
    except (TypeError, ArchiveError):
        return None
    return files or None


def _read_json(file: Path) -> dict[str, Any]:
    """The dictionary in a file; an empty one if there is none, or if it is damaged."""
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Note something in one step; a cache that cannot be written costs a request next time, and nothing else."""
    part = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(content), encoding="utf-8")
        part.replace(file)
    except OSError as error:
        _log.debug("Could not note %s: %s", file, error)
