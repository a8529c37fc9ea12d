"""A run on disk: what `train` writes, and `resume` and all the others find again.

```
run.json         settings, so that `resume` needs nothing but the folder
agent/           the agent, once training has ended
checkpoints/     step_...: the agent on its way there
reports/         numbers, as JSON lines
tensorboard/     the same for TensorBoard, where it is installed
results.json     the evaluation of the agent
replay.mp4       an episode
```
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rl_framework.checkpoints.file_system import flush
from rl_framework.checkpoints.locate import AGENT_FOLDER, CHECKPOINT_FOLDER, complete_steps
from rl_framework.checkpoints.manifest import is_complete
from rl_framework.checkpoints.plain_values import decode, dump_json, encode, parse_json
from rl_framework.errors import ArchiveError, CorruptArchiveError, InvalidInputError, MissingArchiveError

SETTINGS_FILE = "run.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSettings:
    """How a run was asked for.

    Attributes:
        environment: Id of the environment.
        algorithm: Name of the algorithm.
        total_timesteps: Environment steps to train for.
        parameters: The algorithm's parameters, in the JSON form of saved agents.
        normalization: Fields of `Normalization`; None for none.
        n_envs: Environments side by side.
        vectorization: `auto`, `serial` or `subprocess`.
        checkpoint_every: Environment steps between checkpoints.
        keep_last: How many of the newest checkpoints stay.
        stop_at_return: Mean return at which training ends early, None for never.
        time_limit: Seconds of training after which it ends early, None for never.
        tensorboard: Whether numbers also go to TensorBoard.
        evaluate_episodes: Episodes of the evaluation at the end, 0 for none.
        deterministic: Whether it takes the most probable actions.
        video: Whether an episode is recorded at the end.
        seed: Seed of the evaluation and the video, None for a fresh one. The algorithm has it among its parameters.
        preset: Name of the preset it began with.
    """

    environment: str
    algorithm: str
    total_timesteps: int
    parameters: dict[str, Any] = field(default_factory=dict)
    normalization: dict[str, Any] | None = None
    n_envs: int = 1
    vectorization: str = "auto"
    checkpoint_every: int = 10_000
    keep_last: int = 3
    stop_at_return: float | None = None
    time_limit: float | None = None
    tensorboard: bool = False
    evaluate_episodes: int = 50
    deterministic: bool = False
    video: bool = False
    seed: int | None = None
    preset: str | None = None


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of a run and the places in it."""

    path: Path

    @property
    def agent(self) -> Path:
        """The agent that training ended with."""
        return self.path / AGENT_FOLDER

    @property
    def checkpoints(self) -> Path:
        """The agent on its way there."""
        return self.path / CHECKPOINT_FOLDER

    @property
    def reports(self) -> Path:
        """Numbers, as JSON lines."""
        return self.path / "reports"

    @property
    def tensorboard(self) -> Path:
        """Numbers, as TensorBoard reads them."""
        return self.path / "tensorboard"

    @property
    def results(self) -> Path:
        """The evaluation at the end."""
        return self.path / "results.json"

    @property
    def replay(self) -> Path:
        """An episode at the end."""
        return self.path / "replay.mp4"

    @property
    def settings_file(self) -> Path:
        """How the run was asked for."""
        return self.path / SETTINGS_FILE

    @property
    def is_trained(self) -> bool:
        """Whether training has ended: the agent is saved as the first thing after it."""
        return self.agent.is_dir() and is_complete(self.agent)

    def latest_checkpoint(self) -> Path | None:
        """The complete checkpoint with the most steps, None before the first one."""
        steps = complete_steps(self.checkpoints)
        return steps[max(steps)] if steps else None

    def check_free(self) -> None:
        """Refuse to write over another run.

        Raises:
            InvalidInputError: The folder holds one, or is a file.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InvalidInputError(f"The output of a run is a folder, but {self.path} is a file.")
        if any(place.exists() for place in self._places()):
            raise InvalidInputError(
                f"{self.path} holds a run already. Finish it with `rl-framework resume {self.path}`, choose another "
                "--output, or replace it with --overwrite."
            )

    def clear(self) -> None:
        """Remove what a run has written; what others put into the folder stays.

        Raises:
            ArchiveError: Something cannot be removed.
        """
        try:
            for place in self._places():
                shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
        except OSError as error:
            raise ArchiveError(f"The run in {self.path} cannot be replaced: {error}") from error

    def write_settings(self, settings: RunSettings) -> None:
        """Write `run.json`.

        Raises:
            ArchiveError: It cannot be written.
        """
        write_json(self.settings_file, encode(asdict(settings)))

    def read_settings(self) -> RunSettings:
        """Read `run.json`.

        Raises:
            MissingArchiveError: There is none: this is not the folder of a run.
            CorruptArchiveError: It is damaged.
        """
        try:
            text = self.settings_file.read_bytes()
        except OSError as error:
            raise MissingArchiveError(
                f"{self.path} is not a run of `rl-framework train`: there is no {SETTINGS_FILE} in it."
            ) from error
        try:
            return RunSettings(**decode(parse_json(text, str(self.settings_file))))
        except TypeError as error:
            raise CorruptArchiveError(f"{self.settings_file} is damaged: {error}") from error

    def _places(self) -> tuple[Path, ...]:
        """Everything that a run writes, the settings last."""
        return (
            self.agent,
            self.checkpoints,
            self.reports,
            self.tensorboard,
            self.results,
            self.replay,
            self.settings_file,
        )


def write_json(path: Path, value: Any) -> None:
    """Write a JSON value so that readers find the old file or the new one, whole.

    Raises:
        ArchiveError: It cannot be written.
    """
    staging = path.with_name(f".{path.name}.saving")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staging.write_text(dump_json(value, indent=2) + "\n", encoding="utf-8")
        flush(staging)
        staging.replace(path)
        flush(path.parent)
    except OSError as error:
        raise ArchiveError(f"Cannot write {path}: {error}") from error


def run_around(path: Path) -> RunFolder | None:
    """The run that a path means or lies in: the run itself, its agent, its checkpoints or one of them; or None."""
    candidates = (path, *list(path.absolute().parents)[:2])
    return next((RunFolder(each) for each in candidates if (each / SETTINGS_FILE).is_file()), None)
