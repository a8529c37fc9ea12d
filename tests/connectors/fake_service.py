"""A remote connector whose service is a folder, and which fails as told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typing_extensions import Self, override

from rl_framework.connectors.outbox import Outbox
from rl_framework.connectors.outbox_entry import Push
from rl_framework.connectors.remote import RemoteConnector
from rl_framework.connectors.retries import RetryPolicy
from rl_framework.errors import ConnectorError

QUICK = RetryPolicy(attempts=3, first_delay=0.0, longest_delay=0.0)
SECRET = "geheim-4711"


class RefusedError(Exception):
    """The service's way of saying no."""

    status_code = 403


class FakeService(RemoteConnector):
    """Keeps pushes as numbered folders; `trouble` holds what the next attempts to push raise.

    The trouble comes before anything was done, or, for those marked "after", when the push has arrived.
    """

    service = "Fake"

    def __init__(self, place: Path | str, *, outbox: Outbox, retry_policy: RetryPolicy = QUICK) -> None:
        super().__init__(outbox=outbox, retry_policy=retry_policy)
        self.place = Path(place)
        self.trouble: list[Exception | tuple[str, Exception] | None] = []
        self.attempts = 0
        self.searches = 0
        self.extra: Path | None = None
        self.closed = 0

    @property
    def destination(self) -> str:
        return str(self.place)

    def settings(self) -> dict[str, Any]:
        return {"place": str(self.place), "outbox": str(self.outbox.folder)}

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        return cls(settings["place"], outbox=Outbox(settings["outbox"]))

    def _push(self, push: Push) -> str:
        self.attempts += 1
        trouble = self.trouble.pop(0) if self.trouble else None
        if isinstance(trouble, Exception):
            raise trouble
        self.place.mkdir(parents=True, exist_ok=True)
        target = self.place / f"{len(self.pushes()):04d}"
        shutil.copytree(push.folder, target / "folder")
        if push.companions is not None:
            shutil.copytree(push.companions, target / "companions")
        note = {"id": push.id, "message": push.message, "step": push.step}
        (target / "note.json").write_text(json.dumps(note))
        if trouble is not None:
            raise trouble[1]
        return str(target)

    def find_push(self, push_id: str) -> str | None:
        self.searches += 1
        return next((str(self.place / name) for name, note in self.pushes().items() if note["id"] == push_id), None)

    def _pull(self, destination: Path | None, revision: str | None) -> Path:
        trouble = self.trouble.pop(0) if self.trouble else None
        if isinstance(trouble, Exception):
            raise trouble
        newest = revision or max(self.pushes(), default="")
        if newest not in self.pushes():
            raise ConnectorError(f"nothing as {newest!r}")
        return self.place / newest / "folder"

    @override
    def companions(self) -> Path | None:
        return self.extra

    @override
    def redact(self, text: str) -> str:
        return text.replace(SECRET, "***")

    @override
    def close(self) -> None:
        super().close()
        self.closed += 1

    def log_value(self, name: str, value: float, step: int | None = None) -> None:
        """Kept nowhere."""

    def log_values_with_step(self, values: Mapping[str, float], step: int) -> None:
        """Kept nowhere."""

    def pushes(self) -> dict[str, dict[str, Any]]:
        """What has arrived, by name, in order."""
        found = sorted(self.place.glob("*/note.json")) if self.place.is_dir() else []
        return {note.parent.name: json.loads(note.read_text()) for note in found}

    def messages(self) -> list[str | None]:
        return [note["message"] for note in self.pushes().values()]
