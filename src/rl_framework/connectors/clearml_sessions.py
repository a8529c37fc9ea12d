"""Sessions that ClearML has recorded without a server, read without ClearML.

A session is a folder while it is recorded, and a zip file beside it once it was closed:

```
offline-<id>/
    task.json        name, project and artifacts of the task, among others
    data/...         the artifacts' files
```
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rl_framework.checkpoints.manifest import check_inside
from rl_framework.errors import ConnectorError, CorruptArchiveError

TASK_FILE = "task.json"
SESSION_NAME = re.compile(r"offline-[0-9a-f]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionArtifact:
    """An agent or checkpoint in a session.

    Attributes:
        session: The session's folder or zip file.
        session_id: `offline-<id>`.
        project: The task's project.
        task: The task's name.
        name: The artifact's name.
        file: Its file, relative to the session.
        details: What was noted with it: `push_id`, `sha256`, `time`, and `message` and `step` where there are any.
    """

    session: Path
    session_id: str
    project: str
    task: str
    name: str
    file: str
    details: Mapping[str, str]

    @property
    def time(self) -> float:
        """When it was uploaded, in seconds since 1970."""
        return float(self.details.get("time", 0.0))

    @property
    def place(self) -> str:
        """What to ask for to get it: session and artifact."""
        return f"{self.session_id}#{self.name}"


def read_session(session: Path) -> list[SessionArtifact]:
    """What this library has put into a session, oldest first.

    Raises:
        ConnectorError: It is no session.
    """
    try:
        task = json.loads(_read_task(session))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ConnectorError(f"{session} is no session of ClearML: {error}") from error
    found = [_artifact(session, task, item) for item in (task.get("execution") or {}).get("artifacts") or []]
    return sorted((one for one in found if one is not None), key=lambda one: one.time)


def find_sessions(folder: Path) -> Iterator[Path]:
    """All sessions in the folder that ClearML keeps them in; the folder of one that also has a zip file."""
    if not folder.is_dir():
        return
    names = {path.name.removesuffix(".zip") for path in folder.iterdir() if SESSION_NAME.match(path.name)}
    for name in sorted(names):
        path = folder / name
        yield path if (path / TASK_FILE).is_file() else path.with_name(f"{name}.zip")


def all_artifacts(folder: Path) -> list[SessionArtifact]:
    """What is in all sessions, oldest first; those that cannot be read are left out."""
    found = [one for session in find_sessions(folder) for one in _readable(session)]
    return sorted(found, key=lambda one: one.time)


def _readable(session: Path) -> list[SessionArtifact]:
    try:
        return read_session(session)
    except ConnectorError:
        return []


@contextmanager
def fetched(artifact: SessionArtifact) -> Iterator[Path]:
    """The file of an artifact for the length of a block.

    Raises:
        CorruptArchiveError: The session does not hold it.
    """
    if artifact.session.is_dir():
        file = artifact.session / artifact.file
        if not file.is_file():
            raise CorruptArchiveError(f"{artifact.session} does not hold {artifact.file}.")
        yield file
        return
    with TemporaryDirectory(prefix="rl_framework-", ignore_cleanup_errors=True) as temporary:
        yield _extracted(artifact, Path(temporary))


def _extracted(artifact: SessionArtifact, folder: Path) -> Path:
    file = folder / "agent.zip"
    try:
        with (
            zipfile.ZipFile(artifact.session) as archive,
            archive.open(artifact.file) as source,
            file.open("wb") as copy,
        ):
            shutil.copyfileobj(source, copy)
    except (KeyError, zipfile.BadZipFile, OSError) as error:
        raise CorruptArchiveError(f"{artifact.session} does not hold {artifact.file}: {error}") from error
    return file


def _read_task(session: Path) -> bytes:
    if session.is_dir():
        return (session / TASK_FILE).read_bytes()
    with zipfile.ZipFile(session) as archive:
        return archive.read(TASK_FILE)


def _artifact(session: Path, task: Mapping[str, Any], item: Mapping[str, Any]) -> SessionArtifact | None:
    """One of the artifacts that a task lists; None if it is not of this library."""
    details = {str(pair[0]): str(pair[1]) for pair in item.get("display_data") or [] if len(pair) == 2}
    if "push_id" not in details:
        return None
    file = str(item["uri"]).replace(f"{task.get('offline_folder', '')}/", "", 1)
    check_inside(file, str(session))
    return SessionArtifact(
        session=session,
        session_id=str(task["id"]),
        project=str(task.get("project_name")),
        task=str(task.get("name")),
        name=str(item["key"]),
        file=file,
        details=details,
    )
