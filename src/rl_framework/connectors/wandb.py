"""Weights & Biases as a tracker. The client works in a process of its own, which runs this module, too."""

from __future__ import annotations

import os
import re
from html import escape
from pathlib import Path
from typing import Any

from rl_framework.connectors.keys import has_key
from rl_framework.connectors.user_folders import data_folder
from rl_framework.connectors.worker_loop import Answers, RunWorker, plain_explanation, serve
from rl_framework.connectors.worker_tracker import WorkerTracker


class WandbTracker(WorkerTracker):
    """Writes a run of Weights & Biases; without a key it is recorded on this machine only, for `wandb sync`.

    Args:
        project: The run's project.
        run_name: The run's name; W&B invents one unless given.
        offline: Whether to record only. None: as `WANDB_MODE` says, or if there is no key.
        folder: Where the run's files go; the user's data folder unless given.
    """

    service, library, worker_module = "Weights & Biases", "wandb", "rl_framework.connectors.wandb"

    def __init__(
        self, project: str, run_name: str | None = None, *, offline: bool | None = None, folder: Path | None = None
    ) -> None:
        super().__init__()
        self.project, self.run_name, self.offline = project, run_name, offline
        self.folder = folder or data_folder() / "wandb"

    def redact(self, text: str) -> str:
        """Without the key."""
        return text.replace(os.environ.get("WANDB_API_KEY") or "\0", "***")

    def _opening(self, *, fallback: bool) -> dict[str, Any]:  # noqa: ARG002  (the client records and repeats by itself)
        address = os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai"
        chosen = (
            "offline" if (not has_key("WANDB_API_KEY", address) if self.offline is None else self.offline) else "online"
        )
        mode = chosen if self.offline is not None else os.environ.get("WANDB_MODE") or chosen
        return {"project": self.project, "name": self.run_name, "mode": mode, "dir": str(self.folder)}


class WandbWorker(RunWorker):
    """Carries out the verbs of `WandbTracker`, in its process."""

    def do_open(self, **options: Any) -> None:  # noqa: D102  (verbs are described by `WorkerTracker`)
        import wandb

        Path(options["dir"]).mkdir(parents=True, exist_ok=True)
        quiet = wandb.Settings(console="off", silent=True, disable_git=True, disable_code=True, x_disable_stats=True)
        self._wandb, self._run = wandb, wandb.init(**options, settings=quiet)
        self._run.define_metric("*", step_metric="timesteps")

    def do_values(self, values: dict[str, Any], step: int | None) -> None:  # noqa: D102
        self._run.summary.update(values) if step is None else self._run.log({**values, "timesteps": step})

    def do_text(self, name: str, text: str, step: int | None) -> None:  # noqa: D102
        self.do_values({name: self._wandb.Html(f"<pre>{escape(text)}</pre>")}, step or 0)

    def do_parameters(self, parameters: dict[str, Any]) -> None:  # noqa: D102
        self._run.config.update(parameters, allow_val_change=True)

    def do_video(self, name: str, path: str, step: int | None) -> None:  # noqa: D102
        self.do_values({name: self._wandb.Video(path, format="mp4")}, step or 0)

    def do_artifact(self, name: str, path: str) -> None:  # noqa: D102
        artifact = self._wandb.Artifact(re.sub(r"[^\w.-]", "-", name), type="file")
        artifact.add_file(path)
        self._run.log_artifact(artifact)


if __name__ == "__main__":
    serve(WandbWorker(), Answers(), plain_explanation)
