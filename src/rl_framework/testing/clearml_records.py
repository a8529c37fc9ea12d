"""What a ClearML service knows, in memory: projects, tasks, models, events, and the calls that change them."""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

Document = dict[str, Any]

UPLOADING = "uploading_file"


class ClearMLRecords:
    """Carries out API calls. Names of methods are those of the calls with an underscore for the dot.

    Attributes:
        projects: By id.
        tasks: By id.
        models: By id.
        events: In the order of their arrival.
    """

    def __init__(self) -> None:
        self.projects: dict[str, Document] = {}
        self.tasks: dict[str, Document] = {}
        self.models: dict[str, Document] = {}
        self.events: list[Document] = []
        self._lock = threading.RLock()
        self._now = datetime(2030, 1, 1, tzinfo=timezone.utc)

    def verb(self, name: str) -> Callable[[Document], Document] | None:
        """What carries out a call, one at a time; None if there is no such call here."""
        method = getattr(self, f"call_{name.replace('.', '_')}", None)
        if method is None:
            return None

        def locked(document: Document) -> Document:
            with self._lock:
                result: Document = method(document)
                return result

        return locked

    def events_of(self, task: str, kind: str) -> list[Document]:
        """The events of one kind that a task has sent."""
        with self._lock:
            return [event for event in self.events if event.get("task") == task and event.get("type") == kind]

    def finished_models(self, tag: str | None = None) -> list[Document]:
        """Models whose file has arrived, oldest first."""
        with self._lock:
            found = [model for model in self.models.values() if not str(model.get("uri")).endswith(UPLOADING)]
            return [model for model in found if tag is None or tag in model["tags"]]

    def call_projects_create(self, request: Document) -> Document:
        """A new project; two of one name there are not."""
        if any(project["name"] == request["name"] for project in self.projects.values()):
            raise KeyError("name: another project has it")
        return {"id": self._add(self.projects, request, {"tags": [], "system_tags": []})}

    def call_projects_get_all(self, request: Document) -> Document:
        """Projects by name."""
        return {"projects": _selected(self.projects, request)}

    def call_projects_get_by_id(self, request: Document) -> Document:
        """One project."""
        return {"project": self.projects[request["project"]]}

    def call_tasks_create(self, request: Document) -> Document:
        """A new task."""
        blank = {
            "status": "created",
            "execution": {},
            "hyperparams": {},
            "models": {"input": [], "output": []},
            "tags": [],
            "system_tags": [],
            "runtime": {},
            "output": {},
            "company": "loopback",
        }
        return {"id": self._add(self.tasks, request, blank)}

    def call_tasks_get_by_id(self, request: Document) -> Document:
        """One task."""
        return {"task": self.tasks[request["task"]]}

    def call_tasks_get_all(self, request: Document) -> Document:
        """Tasks by id, name, project and tags."""
        return {"tasks": _selected(self.tasks, request)}

    def call_tasks_edit(self, request: Document) -> Document:
        """Change parts of a task."""
        return self._change(self.tasks, "task", request)

    call_tasks_update = call_tasks_edit

    def call_tasks_edit_hyper_params(self, request: Document) -> Document:
        """Add parameters, or change some."""
        task = self.tasks[request["task"]]
        for item in request["hyperparams"]:
            task["hyperparams"].setdefault(item["section"], {})[item["name"]] = item
        return {"updated": 1}

    def call_tasks_set_requirements(self, request: Document) -> Document:
        """Note the packages of a task."""
        self.tasks[request["task"]].setdefault("script", {})["requirements"] = request["requirements"]
        return {"updated": 1}

    def call_tasks_ping(self, request: Document) -> Document:
        """A sign of life."""
        return {}

    def call_tasks_add_or_update_artifacts(self, request: Document) -> Document:
        """Add artifacts; one of the same key and mode takes the place of an earlier one."""
        execution = self.tasks[request["task"]]["execution"]
        known = {(item["key"], item.get("mode")): item for item in execution.get("artifacts") or []}
        known.update({(item["key"], item.get("mode")): item for item in request["artifacts"]})
        execution["artifacts"] = list(known.values())
        return {"updated": 1}

    def call_tasks_add_or_update_model(self, request: Document) -> Document:
        """Connect a model to a task."""
        models = self.tasks[request["task"]]["models"][request["type"]]
        models[:] = [item for item in models if item["name"] != request["name"]]
        models.append({"name": request["name"], "model": request["model"]})
        return {"updated": 1}

    def call_tasks_started(self, request: Document) -> Document:
        """It runs."""
        return self._set_status(request, "in_progress")

    def call_tasks_stopped(self, request: Document) -> Document:
        """It was stopped."""
        return self._set_status(request, "stopped")

    def call_tasks_failed(self, request: Document) -> Document:
        """It failed."""
        return self._set_status(request, "failed")

    def call_tasks_completed(self, request: Document) -> Document:
        """It is done."""
        return self._set_status(request, "completed")

    def call_models_create(self, request: Document) -> Document:
        """A new model, as yet without a file."""
        blank = {"tags": [], "system_tags": [], "labels": {}, "design": {}, "framework": "", "comment": "", "uri": ""}
        return {"id": self._add(self.models, request, blank), "created": True}

    def call_models_delete(self, request: Document) -> Document:
        """Forget a model."""
        del self.models[request["model"]]
        for task in self.tasks.values():
            connected = task["models"]["output"]
            connected[:] = [item for item in connected if item["model"] != request["model"]]
        return {"deleted": True, "url": None}

    def call_models_edit(self, request: Document) -> Document:
        """Change parts of a model."""
        return self._change(self.models, "model", request)

    call_models_update = call_models_edit

    def call_models_add_or_update_metadata(self, request: Document) -> Document:
        """Add values to a model."""
        model = self.models[request["model"]]
        model.setdefault("metadata", {}).update({item["key"]: item for item in request["metadata"]})
        return {"updated": 1}

    def call_models_get_by_id(self, request: Document) -> Document:
        """One model."""
        return {"model": self.models[request["model"]]}

    def call_models_get_all(self, request: Document) -> Document:
        """Models by id, name, project and tags."""
        return {"models": _selected(self.models, request)}

    def call_events_add_batch(self, request: Document) -> Document:
        """One event: the client sends one per line."""
        self.events.append(request)
        return {"added": 1, "errors": 0}

    def call_events_get_task_single_value_metrics(self, request: Document) -> Document:
        """Numbers that belong to no step."""
        return {"tasks": []}

    def _set_status(self, request: Document, status: str) -> Document:
        task = self.tasks[request["task"]]
        task["status"] = status
        return {"updated": 1, "fields": {"status": status}}

    def _add(self, kind: dict[str, Document], request: Document, blank: Document) -> str:
        """Times are one second apart, so that their order is that of the calls."""
        self._now += timedelta(seconds=1)
        stamp = self._now.isoformat()
        identifier = uuid.uuid4().hex
        given = {key: value for key, value in request.items() if value is not None}
        kind[identifier] = {**blank, **given, "id": identifier, "created": stamp, "last_update": stamp}
        return identifier

    def _change(self, kind: dict[str, Document], key: str, request: Document) -> Document:
        self._now += timedelta(seconds=1)
        changes = {name: value for name, value in request.items() if name not in (key, "force") and value is not None}
        kind[request[key]].update(changes, last_update=self._now.isoformat())
        return {"updated": 1, "fields": changes}


def _selected(kind: dict[str, Document], request: Document) -> list[Document]:
    """What a `get_all` asks for: filters, order, page."""
    found = [item for item in kind.values() if _matches(item, request)]
    for order in reversed(request.get("order_by") or []):
        name = order.removeprefix("-")
        found.sort(key=lambda item: str(item.get(name, "")), reverse=order.startswith("-"))
    size = request.get("page_size") or len(found)
    start = (request.get("page") or 0) * size
    return found[start : start + size]


def _matches(item: Document, request: Document) -> bool:
    checks = (
        not request.get("id") or item["id"] in request["id"],
        not request.get("name") or re.search(request["name"], str(item.get("name", ""))) is not None,
        not request.get("project") or item.get("project") in request["project"],
        _has_tags(item.get("tags", []), request.get("tags")),
        _has_tags(item.get("system_tags", []), request.get("system_tags")),
        not request.get("status") or item.get("status") in request["status"],
    )
    return all(checks)


def _has_tags(tags: list[str], wanted: list[str] | None) -> bool:
    """Any of the wanted tags, all of them after `__$all`, and none that is wanted away by a leading minus."""
    needs_all = "__$all" in (wanted or [])
    names = [name for name in wanted or [] if not name.startswith("__$")]
    unwanted = {name[1:] for name in names if name.startswith("-")}
    required = [name for name in names if not name.startswith("-")]
    if unwanted & set(tags):
        return False
    return not required or (all if needs_all else any)(name in tags for name in required)
