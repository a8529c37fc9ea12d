"""ClearML as a store and tracker, with a server or without one.

Online, an upload is an output model of the task, and `load_agent("clearml://<model or task id>")` brings it back.
Without a server the task is a session on this machine, in ClearML's cache folder; an upload is an artifact of the
session, and `ClearMLConnector.import_session` sends the session once there is a server.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typing_extensions import Self, override

from rl_framework.connectors.clearml_sessions import SessionArtifact, all_artifacts, fetched, read_session
from rl_framework.connectors.outbox import Outbox
from rl_framework.connectors.outbox_entry import Push
from rl_framework.connectors.packed_folder import packed, place_packed
from rl_framework.connectors.retries import RetryPolicy
from rl_framework.connectors.worker_connector import SHORT_DEADLINE, WorkerConnector, upload_deadline
from rl_framework.connectors.worker_process import WorkerProcess
from rl_framework.errors import ConnectorError, UnknownOptionError

DEFAULT_TASK = "training"
SECRETS = ("CLEARML_API_SECRET_KEY", "CLEARML_AUTH_TOKEN")
WEB_TOKEN = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+")

_log = logging.getLogger(__name__)


class ClearMLConnector(WorkerConnector):
    """Keeps agents and numbers in a task of ClearML, which begins with the first thing to keep.

    Names of numbers are `title/series`, numbers without a step single values, texts lines of the console, parameters
    hyper-parameters, videos debug samples, files artifacts. ClearML cannot hold NaN and infinities; they are written
    to the console.

    The `clearml` client works in a process of its own: it waits for no server here, and changes nothing in the
    process that trains. A task that the script has begun itself (`Task.init`) is another one.

    Args:
        project_name: The task's project.
        task_name: The task's name, and that of its models. None: `training`; downloads then take the newest agent of
            the whole project.
        offline: Whether to work without a server. None: as `CLEARML_OFFLINE_MODE` says, or if there are no keys.
        outbox: Where pushes wait; the user's own unless given.
        retry_policy: How often and how long a request is tried again before a push waits in the outbox.
        close_patience: Seconds that closing may take to hand over what is waiting.
    """

    service = "ClearML"
    worker_module = "rl_framework.connectors.clearml_worker"
    library = "clearml"

    def __init__(
        self,
        project_name: str,
        task_name: str | None = None,
        *,
        offline: bool | None = None,
        outbox: Outbox | None = None,
        retry_policy: RetryPolicy | None = None,
        close_patience: float = 60.0,
    ) -> None:
        super().__init__(outbox=outbox, retry_policy=retry_policy, close_patience=close_patience)
        self.project_name = project_name
        self.task_name = task_name
        self.offline = offline
        self._task_id: str | None = None
        self._session: Path | None = None
        self._storing: WorkerProcess | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.project_name!r}, {self.task_name!r}, offline={self.offline})"

    @property
    def destination(self) -> str:
        """Project and task; with and without a server they are two places."""
        return f"{self.project_name}/{self._name}{' (offline)' if self.offline else ''}"

    @property
    @override
    def uri(self) -> str | None:
        """The task or session, once it has begun."""
        begun = self._session.name if self.offline and self._session else self._task_id
        return None if begun is None else f"clearml://{begun}"

    @property
    def task_id(self) -> str | None:
        """The task's id on the server, once it has begun there."""
        return self._task_id

    @property
    def session(self) -> Path | None:
        """The folder of the session on this machine, once one has begun; zipped beside it when it is closed."""
        return self._session

    def settings(self) -> dict[str, Any]:
        """Project, task, and the id of the task that has begun; keys come from where ClearML finds them."""
        return {
            "project_name": self.project_name,
            "task_name": self.task_name,
            "offline": self.offline,
            "task_id": self._task_id,
        }

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """The connector that `settings` describes; it goes on with the task.

        Raises:
            UnknownOptionError: A setting of another version of this library.
        """
        known = ("project_name", "task_name", "offline", "task_id")
        for name in settings:
            if name not in known:
                raise UnknownOptionError.of("setting of a ClearMLConnector", name, known)
        connector = cls(settings["project_name"], settings.get("task_name"), offline=settings.get("offline"))
        connector._task_id = settings.get("task_id")
        return connector

    def find_push(self, push_id: str) -> str | None:
        """The model, or the artifact of the task or session, that carries the push's id."""
        if self._is_offline():
            found = [one for one in self._artifacts() if one.details["push_id"] == push_id]
            return f"clearml://{found[-1].place}" if found else None
        found_id = self._ask("find", push_id=push_id, project=self.project_name, task=self._name)
        return None if found_id is None else f"clearml://{found_id}"

    def import_session(self, session: Path | str) -> str:
        """Send a session that was recorded without a server: task, numbers, videos, artifacts and agents.

        A session that was sent before is recognised.

        Args:
            session: Its folder or zip file.

        Returns:
            The id of the task.

        Raises:
            UnreachableServiceError: Not now; later it may work.
            ConnectorError: It is no session, or the server refuses it.
        """
        path = Path(session).expanduser().absolute()
        agents = [one for one in read_session(path) if "step" not in one.details]
        return str(
            self._ask(
                "import_session",
                session=str(path),
                session_id=_session_id(path),
                agents=[one.name for one in agents],
                name=agents[-1].task if agents else self._name,
                deadline=upload_deadline(path),
            )
        )

    @override
    def redact(self, text: str) -> str:
        """Without the keys and tokens of ClearML."""
        for secret in filter(None, (os.environ.get(name) for name in SECRETS)):
            text = text.replace(secret, "***")
        return WEB_TOKEN.sub("***", text)

    def _push(self, push: Push) -> str:
        with packed(push.folder, "agent.zip") as agent:
            details = {"push_id": push.id, "sha256": agent.sha256, "time": str(time.time()), **_notes(push)}
            common: dict[str, Any] = {"path": str(agent.path), "deadline": upload_deadline(agent.path)}
            worker = self._storing_worker()
            if self._is_offline() or push.step is not None:
                name = None if push.step is None else f"checkpoint-{push.step}"
                kept = worker.request("push_artifact", name=name, details=details, **common)
                task = self._session.name if self._is_offline() and self._session else self._task_id
                return f"clearml://{task}#{kept}"
            model = worker.request(
                "push_model", push_id=push.id, name=self._name, message=push.message, details=details, **common
            )
            return f"clearml://{model}"

    def _pull(self, destination: Path | None, revision: str | None) -> Path:
        artifact = self._session_artifact(revision)
        if artifact is not None:
            with fetched(artifact) as file:
                return place_packed(file, destination, f"clearml/{artifact.place}", artifact.details.get("sha256"))
        found = self._ask(
            "pull",
            project=self.project_name,
            task=self.task_name,
            revision=revision,
            deadline=self.retry_policy.deadline + 10 * SHORT_DEADLINE,
        )
        file = Path(found["path"])
        try:
            return place_packed(file, destination, f"clearml/{found['key']}", found["sha256"])
        finally:
            file.unlink(missing_ok=True)

    def _session_artifact(self, revision: str | None) -> SessionArtifact | None:
        """What a revision means on this machine; None if it is for the server to say."""
        place, _, name = (revision or "").partition("#")
        if place and Path(place).expanduser().exists():
            known = read_session(Path(place).expanduser())
        elif place.startswith("offline-"):
            known = [one for one in self._artifacts(everywhere=True) if one.session_id == place]
        elif self._is_offline():
            known = [] if place else self._artifacts()
        else:
            return None
        chosen = [one for one in known if one.name == name or (not name and "step" not in one.details)]
        if not chosen:
            raise ConnectorError(
                f"No session of ClearML on this machine holds the agent {revision or self.destination}."
            )
        return chosen[-1]

    def _artifacts(self, everywhere: bool = False) -> list[SessionArtifact]:
        """What the sessions on this machine hold, of this project and task unless of all."""
        folder = Path(self._ask("offline_folder"))
        return [
            one
            for one in all_artifacts(folder)
            if everywhere or (one.project == self.project_name and self.task_name in (None, one.task))
        ]

    @property
    def _name(self) -> str:
        return self.task_name or DEFAULT_TASK

    def _is_offline(self) -> bool:
        """Decided once, when it is needed."""
        if self.offline is None:
            self.offline = bool(self._any_worker().request("mode", offline=None, deadline=SHORT_DEADLINE))
        return self.offline

    def _ask(self, verb: str, *, deadline: float = SHORT_DEADLINE, **arguments: Any) -> Any:
        return self._online_worker().request(verb, deadline=deadline, **arguments)

    def _any_worker(self) -> WorkerProcess:
        """One that runs, for questions that need no server and no task."""
        with self._choosing:
            for worker in (self._tracking, self._storing):
                if worker is not None and worker.alive:
                    return worker
            self._storing = self._new_worker()
            return self._storing

    def _online_worker(self) -> WorkerProcess:
        """One that may ask the server; not one that records without it because it was silent."""
        with self._choosing:
            if self._tracking is not None and self._tracking.alive and (self._session is None or self.offline):
                return self._tracking
            if self._storing is None or not self._storing.alive:
                self._storing = self._new_worker()
            return self._storing

    def _storing_worker(self) -> WorkerProcess:
        """One whose task takes uploads."""
        worker = self._online_worker()
        opened = worker.request("open", deadline=SHORT_DEADLINE, **self._opening(fallback=False))
        if opened["fell_back"]:
            self._remember(opened)
            worker = self._online_worker()
            opened = worker.request("open", deadline=SHORT_DEADLINE, **self._opening(fallback=False))
        self._remember(opened)
        return worker

    @override
    def _spare_worker(self) -> WorkerProcess | None:
        spare, self._storing = self._storing, None
        return spare if spare is not None and spare.alive else None

    @override
    def _workers(self) -> list[WorkerProcess]:
        storing, self._storing = self._storing, None
        return [*super()._workers(), *([] if storing is None else [storing])]

    def _opening(self, *, fallback: bool) -> dict[str, Any]:
        return {
            "project": self.project_name,
            "task": self._name,
            "offline": self.offline,
            "fallback": fallback,
            "task_id": self._task_id,
        }

    @override
    def _take_note(self, note: Mapping[str, Any]) -> None:
        if "opened" in note:
            self._remember(note["opened"])
            if note["opened"]["fell_back"]:
                _log.warning(
                    "ClearML cannot be reached. The run is recorded in %s; send it later with "
                    "ClearMLConnector.import_session.",
                    note["opened"]["session"],
                )
        else:
            super()._take_note(note)

    def _remember(self, opened: Mapping[str, Any]) -> None:
        if opened["session"] is None:
            self._task_id = opened["task"]
        else:
            self._session = Path(opened["session"])


def _notes(push: Push) -> dict[str, str]:
    """What people want to know about a push; nothing that is None."""
    notes = {"message": push.message, "step": push.step}
    return {name: str(value) for name, value in notes.items() if value is not None}


def _session_id(path: Path) -> str:
    return path.name.removesuffix(".zip")
