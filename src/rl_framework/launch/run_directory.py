"""The folder of a run: what was asked for, what it was made with, what it reported and where it stands.

```
config.yaml      the whole configuration
versions.json    Python, the machine, the libraries and the commit, of each start
reports/         everything reported, as JSON lines
checkpoints/     step_...: the agent, or whatever the script saves
agent/           the agent, where the script saves one in the end
result.json      the score, once it has ended
```
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rl_framework.checkpoints.file_system import FolderLock
from rl_framework.errors import ArchiveError, CorruptArchiveError, InvalidInputError, MissingArchiveError
from rl_framework.launch.config_files import dump_yaml, read_plain, write_json, write_text


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """The folder of a run and the places in it."""

    path: Path

    @property
    def config(self) -> Path:
        """The whole configuration."""
        return self.path / "config.yaml"

    @property
    def versions(self) -> Path:
        """What it was made with."""
        return self.path / "versions.json"

    @property
    def reports(self) -> Path:
        """Everything reported."""
        return self.path / "reports"

    @property
    def checkpoints(self) -> Path:
        """Where it stands."""
        return self.path / "checkpoints"

    @property
    def agent(self) -> Path:
        """What it ended with, where that is an agent."""
        return self.path / "agent"

    @property
    def result(self) -> Path:
        """How it ended."""
        return self.path / "result.json"

    @property
    def has_ended(self) -> bool:
        """Whether the function came to its end."""
        return self.result.exists()

    def latest_checkpoint(self) -> Path | None:
        """The complete checkpoint with the most steps, None before the first one."""
        from rl_framework.checkpoints.locate import complete_steps

        steps = complete_steps(self.checkpoints)
        return steps[max(steps)] if steps else None

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Keep other processes out of the folder during a block; it is made if there is none.

        Raises:
            InvalidInputError: It is a file, or a run is going on in it.
            ArchiveError: It cannot be made.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InvalidInputError(f"The output of a run is a folder, but {self.path} is a file.")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArchiveError(f"The folder {self.path} cannot be made: {error}") from error
        lock = FolderLock(self.path)
        if not lock.acquire() and os.name == "posix":
            raise InvalidInputError(f"A run is going on in {self.path}. Wait for its end, or choose another --output.")
        try:
            yield
        finally:
            lock.release()

    def check_free(self) -> None:
        """Refuse to write over another run.

        Raises:
            InvalidInputError: The folder holds one.
        """
        if any(place.exists() for place in self._places()):
            raise InvalidInputError(
                f"{self.path} holds a run already. Go on with it by --resume {self.path}, choose another --output, or "
                "replace it with --overwrite."
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

    def write_config(self, tree: Mapping[str, Any]) -> None:
        """Write `config.yaml`.

        Raises:
            ArchiveError: It cannot be written.
        """
        write_text(self.config, dump_yaml(tree))

    def read_config(self) -> dict[str, Any]:
        """Read `config.yaml`.

        Raises:
            MissingArchiveError: There is none: this is not the folder of a run.
        """
        if not self.config.is_file():
            raise MissingArchiveError(f"{self.path} is not the folder of a run: there is no {self.config.name} in it.")
        return read_plain(self.config)

    def note_start(self, versions: Mapping[str, Any]) -> None:
        """Add to `versions.json` what a start is made with.

        Raises:
            ArchiveError: It cannot be written, or is damaged.
        """
        write_json(self.versions, [*self.read_versions(), versions])

    def read_versions(self) -> list[dict[str, Any]]:
        """What each start was made with, oldest first.

        Raises:
            CorruptArchiveError: The file is damaged.
        """
        if not self.versions.exists():
            return []
        try:
            starts: list[dict[str, Any]] = json.loads(self.versions.read_bytes())
        except ValueError as error:
            raise CorruptArchiveError(f"{self.versions} is damaged: it is not JSON ({error}).") from error
        return starts

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write `result.json`, as the last thing of a run.

        Raises:
            ArchiveError: It cannot be written.
        """
        write_json(self.result, result)

    def _places(self) -> tuple[Path, ...]:
        """Everything that a run writes, the configuration last."""
        return (self.result, self.agent, self.checkpoints, self.reports, self.versions, self.config)
