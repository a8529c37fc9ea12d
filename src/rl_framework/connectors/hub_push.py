"""Putting a folder into a Hub repository: one push is one commit, on top of whatever others have put there."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from pathlib import Path

from rl_framework.connectors.hub_client import PUSH_LINE, HubClient, is_stale
from rl_framework.connectors.hub_files import HubFile, changed_paths
from rl_framework.connectors.hub_index import INDEX_FILE, HubIndex
from rl_framework.connectors.outbox_entry import Push
from rl_framework.errors import ArchiveError, UnreachableServiceError

CHECKPOINTS = "checkpoints"
ATTEMPTS_ON_MOVING_BRANCH = 20
NAMES_SHOWN = 10
LONGEST_TITLE = 200

_log = logging.getLogger(__name__)

Files = dict[str, HubFile]


class HubPush:
    """Pushes to one branch.

    Args:
        client: The repository.
        branch: The branch; it is made, as is the repository, with the first push.
        private: Whether a repository that is made here can be seen by its owner only.
    """

    def __init__(self, client: HubClient, branch: str, *, private: bool) -> None:
        self._client = client
        self._branch = branch
        self._private = private
        self._seen: str | None = None
        self._brought: dict[str, set[str]] = {}

    def push(self, push: Push) -> str:
        """Commit a push, and give the commit.

        A later push of this object expects the branch as this one has left it. If it finds another, someone else has
        pushed; that is told, and nothing of theirs is lost: what this push does not write stays, the rest is in the
        history.

        Raises:
            UnreachableServiceError: Others push so often that no moment was found.
            Exception: The client's own.
        """
        place = "" if push.step is None else place_of(push.step)
        additions = _additions(push, place)
        parent = self._take_seen() or self._head()
        gone = self._outdated(parent, place, additions)
        for _ in range(ATTEMPTS_ON_MOVING_BRANCH):
            commit = self._commit(push, parent, additions, gone)
            if commit is not None:
                self._seen, self._brought[place] = commit, _paths_below(push.folder)
                return commit
            found = self._client.find_push(push.id, self._branch)
            if found is not None:
                return found
            newest = self._client.commit_of(self._branch)
            gone = self._catch_up(parent, newest, additions, gone)
            parent = newest
        raise UnreachableServiceError(
            f"{self._client.repository}@{self._branch} moved on {ATTEMPTS_ON_MOVING_BRANCH} times during one push."
        )

    def _take_seen(self) -> str | None:
        """The branch as the last push has left it; forgotten until this one has succeeded, too."""
        seen, self._seen = self._seen, None
        if seen is None:
            self._brought.clear()
        return seen

    def _head(self) -> str:
        head = self._client.head(self._branch)
        if head is None:
            self._client.create(self._branch, private=self._private)
            head = self._client.commit_of(self._branch)
        return head

    def _commit(self, push: Push, parent: str, additions: dict[str, Path | bytes], gone: Files) -> str | None:
        """The new commit; None if the branch has moved on from the parent."""
        try:
            made = self._client.commit(
                self._branch,
                parent,
                additions=additions,
                deletions=gone,
                title=_title(push),
                description=_description(push),
            )
        except Exception as error:
            if not is_stale(error) or self._client.commit_of(self._branch) == parent:
                raise
            return None
        return made.oid

    def _outdated(self, parent: str, place: str, additions: Collection[str]) -> Files:
        """Files that the last push into the place has brought, and this one does not."""
        listed: Iterable[str] | None = self._brought.get(place)
        if listed is not None and all(place + name in additions for name in listed):
            return {}
        known = self._client.files(parent)
        if listed is None:
            listed = self._listed(parent, place, known)
        paths = {place + name for name in listed}
        return {path: known[path] for path in paths if path in known and path not in additions}

    def _listed(self, parent: str, place: str, known: Files) -> Iterable[str]:
        try:
            index = self._client.index(parent, place, known)
        except ArchiveError as error:
            _log.warning("What an earlier push has left in %s stays there: %s", self._client.repository, error)
            return ()
        return () if index is None else index.files

    def _catch_up(self, parent: str, newest: str, additions: Collection[str], gone: Files) -> Files:
        """Tell that someone else has pushed, and leave alone what they have changed among the files to delete."""
        before, after = self._client.files(parent), self._client.files(newest)
        theirs = changed_paths(before, after)
        replaced = sorted(theirs & set(additions) & set(after) - {INDEX_FILE})
        kept = sorted(theirs & set(after) - set(additions))
        _log.warning(
            "Someone else has pushed to %s@%s. Their version is the commit %s and stays in the history; this push goes "
            "on top of it. Kept as they are: %s. Replaced by this push: %s.",
            self._client.repository, self._branch, newest, _shown(kept), _shown(replaced),
        )  # fmt: skip
        return {path: file for path, file in gone.items() if after.get(path) == file}


def place_of(step: int) -> str:
    """The folder of a checkpoint in a repository, with a slash at its end."""
    return f"{CHECKPOINTS}/{step}/"


def _additions(push: Push, place: str) -> dict[str, Path | bytes]:
    """What a push writes: its files and the list of them in their place, and what goes with it at the root."""
    files = {name: push.folder / name for name in _paths_below(push.folder) if name != INDEX_FILE}
    added: dict[str, Path | bytes] = {}
    if push.companions is not None:
        added |= {name: push.companions / name for name in _paths_below(push.companions)}
    added |= {place + name: file for name, file in files.items()}
    added[place + INDEX_FILE] = HubIndex.of(push.id, files).to_bytes()
    return added


def _paths_below(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def _title(push: Push) -> str:
    first = (push.message or "").strip().partition("\n")[0]
    what = "Agent" if push.step is None else f"Checkpoint at {push.step} steps"
    return first[:LONGEST_TITLE] or f"{what}, pushed by rl_framework"


def _description(push: Push) -> str:
    text = (push.message or "").strip()
    told = text if "\n" in text or len(text) > LONGEST_TITLE else ""
    return f"{told}\n\n{PUSH_LINE}{push.id}".strip()


def _shown(paths: list[str]) -> str:
    more = f" and {len(paths) - NAMES_SHOWN} more" if len(paths) > NAMES_SHOWN else ""
    return ", ".join(paths[:NAMES_SHOWN]) + more or "nothing"
