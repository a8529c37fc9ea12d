"""Finds agents on a ClearML server, and fetches them. For the worker process only."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from clearml import Model, Task
from clearml.backend_interface.session import SendError

TAG = "rl_framework"
AGENT = "agent"
PLACEHOLDERS = ("uploading_file", "failed_uploading")
MOST_TASKS = 100


def models_of(project: str, tags: list[str]) -> list[Model]:
    """Whole models with all of the tags, newest first."""
    if not _project_exists(project):
        return []
    found = Model.query_models(project_name=project, tags=["__$all", *tags])
    return [model for model in found if is_whole(model.url)]


def tasks_of(project: str, name: str | None) -> list[Task]:
    """The newest tasks, newest first."""
    if not _project_exists(project):
        return []
    pattern = f"^{re.escape(name)}$" if name else None
    order = {"order_by": ["-created"], "page": 0, "page_size": MOST_TASKS}
    return list(Task.get_tasks(project_name=f"^{re.escape(project)}$", task_name=pattern, task_filter=order))


def _project_exists(project: str) -> bool:
    return Task.get_project_id(project, search_hidden=True) is not None


def is_whole(address: str | None) -> bool:
    """Whether an address of a model is that of a file that has arrived."""
    return bool(address) and not str(address).endswith(PLACEHOLDERS)


def from_revision(revision: str) -> dict[str, Any] | None:
    """A model's id, a task's, or a task's with one of its artifacts: `<task>#<artifact>`."""
    identifier, _, artifact = revision.partition("#")
    if not re.fullmatch(r"[0-9a-f]{32}", identifier):
        return None
    model = Model(model_id=identifier)
    if not artifact and _exists(lambda: model.url):
        return from_model(model)
    task = _exists(lambda: Task.get_task(identifier))
    if task is None:
        return None
    if artifact:
        return _from_artifact(task, artifact)
    models = [model for model in reversed(task.models["output"]) if TAG in (model.tags or []) and is_whole(model.url)]
    return from_model(models[0]) if models else from_tasks([task])


def _exists(look: Callable[[], Any]) -> Any:
    try:
        return look()
    except (SendError, ValueError, AttributeError):  # the last: a model that does not exist has no data
        return None


def from_model(model: Model) -> dict[str, Any]:
    """Fetch the file of a model."""
    path = model.get_local_copy(extract_archive=False, raise_on_error=True, force_download=True)
    return {"path": str(path), "key": str(model.id), "sha256": (model.config_dict or {}).get("sha256")}


def from_tasks(tasks: list[Task]) -> dict[str, Any] | None:
    """The newest agent among their artifacts."""
    for task in tasks:
        names = [name for name in task.artifacts if _agent_number(name)]
        if names:
            return _from_artifact(task, max(names, key=_agent_number))
    return None


def _from_artifact(task: Task, name: str) -> dict[str, Any] | None:
    artifact = task.artifacts.get(name)
    if artifact is None:
        return None
    path = artifact.get_local_copy(extract_archive=False, raise_on_error=True, force_download=True)
    return {"path": str(path), "key": f"{task.id}-{name}", "sha256": details_of(artifact).get("sha256")}


def details_of(artifact: Any) -> dict[str, str]:
    """What was noted with an artifact."""
    return dict(artifact.metadata or {})


def _agent_number(name: str) -> int:
    """1 for `agent`, 2 for `agent-2`, and so on; 0 for anything else."""
    matched = re.fullmatch(rf"{AGENT}(?:-(\d+))?", name)
    return int(matched[1] or 1) if matched else 0


def next_agent(names: list[str]) -> str:
    """A name for one more agent among artifacts of these names."""
    number = max((_agent_number(name) for name in names), default=0) + 1
    return AGENT if number == 1 else f"{AGENT}-{number}"
