"""trackio as a tracker. The client works in a process of its own, which runs this module, too."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from rl_framework.connectors.worker_loop import Answers, RunWorker, plain_explanation, serve
from rl_framework.connectors.worker_tracker import WorkerTracker

SECRETS = ("HF_TOKEN", "TRACKIO_WRITE_TOKEN")


class TrackioTracker(WorkerTracker):
    """Writes a run of trackio into its database on this machine; `trackio show` displays it.

    Args:
        project: The run's project.
        run_name: The run's name; trackio invents one unless given.
        space_id: A Space of the Hugging Face Hub to write to instead, `owner/name`.
        folder: Where the database is; trackio's own place unless given.
    """

    service, library, worker_module = "trackio", "trackio", "rl_framework.connectors.trackio"

    def __init__(
        self, project: str, run_name: str | None = None, *, space_id: str | None = None, folder: Path | None = None
    ) -> None:
        super().__init__()
        self.project, self.run_name, self.space_id = project, run_name, space_id
        self.folder = folder

    def redact(self, text: str) -> str:
        """Without the tokens."""
        for secret in filter(None, map(os.environ.get, SECRETS)):
            text = text.replace(secret, "***")
        return text

    def _opening(self, *, fallback: bool) -> dict[str, Any]:  # noqa: ARG002  (the database is on this machine)
        folder = None if self.folder is None else str(self.folder.absolute())
        return {"project": self.project, "name": self.run_name, "space_id": self.space_id, "folder": folder}


class TrackioWorker(RunWorker):
    """Carries out the verbs of `TrackioTracker`, in its process."""

    def do_open(self, *, folder: str | None, **options: Any) -> None:  # noqa: D102  (see `WorkerTracker`)
        if folder is not None:
            os.environ["TRACKIO_DIR"] = folder
        import trackio

        self._trackio = trackio
        self._run = trackio.init(**options, embed=False, auto_log_gpu=False, auto_log_cpu=False)

    def do_values(self, values: dict[str, Any], step: int | None) -> None:  # noqa: D102
        self._run.log(values, step=step)

    def do_text(self, name: str, text: str, step: int | None) -> None:  # noqa: D102
        self._run.log({name: self._trackio.Markdown(text)}, step=step)

    def do_parameters(self, parameters: dict[str, Any]) -> None:  # noqa: D102
        self.do_text("parameters", "\n".join(f"- {name}: {value}" for name, value in parameters.items()), 0)

    def do_video(self, name: str, path: str, step: int | None) -> None:  # noqa: D102
        self._run.log({name: self._trackio.Video(path)}, step=step)

    def do_artifact(self, name: str, path: str) -> None:  # noqa: D102
        self._trackio.log_artifact(path, name=re.sub(r"[^\w.-]", "-", name), type="file")


if __name__ == "__main__":
    serve(TrackioWorker(), Answers(), plain_explanation)
