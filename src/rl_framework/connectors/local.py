"""A folder on this machine as a store and tracker.

```
log.jsonl        numbers, texts, parameters, and notes about files: one JSON value per line
revisions/       one folder per upload, numbered
videos/          copies of the videos
artifacts/       copies of other files
```
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rl_framework.checkpoints.archive import open_archive, save_archive
from rl_framework.connectors.base import Connector, as_number, check_file, check_folder
from rl_framework.connectors.json_lines import JsonLines, number_of
from rl_framework.errors import ArchiveError, ConnectorError

History = dict[str, list[tuple[int | None, float]]]


class LocalConnector(Connector):
    """Keeps everything below one folder; each file appears whole or not at all.

    `download` replaces a destination that is a saved agent or empty, and refuses anything else in its way.

    Args:
        folder: Where. It is made with the first thing to keep.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder).expanduser().absolute()
        self._log = JsonLines(self.folder / "log.jsonl")

    def log_value(self, name: str, value: float, step: int | None = None) -> None:
        """Append one number."""
        self._note("values", step=step, values={name: as_number(name, value)})

    def log_values_with_step(self, values: Mapping[str, float], step: int) -> None:
        """Append several numbers, in one line."""
        self._note("values", step=step, values={name: as_number(name, value) for name, value in values.items()})

    def log_text(self, name: str, text: str, step: int | None = None) -> None:
        """Append a text."""
        self._note("text", step=step, name=name, text=text)

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Append the parameters; what JSON has no type for is kept as its text."""
        self._note("parameters", parameters=parameters)

    def log_video(self, name: str, path: Path, step: int | None = None) -> None:
        """Copy a video; one per name and step."""
        suffix = "" if step is None else f"-{step}"
        kept = self._copy_file(path, self.folder / "videos" / f"{_file_name(name)}{suffix}{path.suffix}")
        self._note("video", step=step, name=name, file=kept)

    def log_artifact(self, name: str, path: Path) -> None:
        """Copy a file; one per name."""
        kept = self._copy_file(path, self.folder / "artifacts" / f"{_file_name(name)}{path.suffix}")
        self._note("artifact", name=name, file=kept)

    def upload(self, folder: Path, *, message: str | None = None) -> str:
        """Copy a folder to a new revision, and give its path."""
        target = self.folder / "revisions" / self._next_revision()
        _copy_folder(check_folder(folder), target)
        self._note("upload", revision=target.name, message=message)
        return str(target)

    def download(self, destination: Path | None = None, *, revision: str | None = None) -> Path:
        """The folder of a revision, or a copy of it."""
        known = self.revisions()
        if not known:
            raise ConnectorError(f"Nothing was uploaded to {self.folder}.")
        if revision is not None and revision not in known:
            raise ConnectorError(f"There is no revision {revision!r} in {self.folder}, only {', '.join(known)}.")
        found = self.folder / "revisions" / (revision or known[-1])
        if destination is None:
            return found
        _copy_folder(found, destination)
        return destination

    def revisions(self) -> list[str]:
        """The names of the revisions, oldest first."""
        holder = self.folder / "revisions"
        return sorted(part.name for part in holder.glob("[0-9]*") if part.is_dir()) if holder.is_dir() else []

    def read_values(self) -> History:
        """All numbers so far by name, each with its step, oldest first; also while another process writes."""
        history: History = {}
        for record in self._records("values"):
            for name, value in record["values"].items():
                history.setdefault(name, []).append((record["step"], number_of(value)))
        return history

    def read_parameters(self) -> dict[str, Any]:
        """The parameters; later ones replace earlier ones of the same name."""
        parameters: dict[str, Any] = {}
        for record in self._records("parameters"):
            parameters |= record["parameters"]
        return parameters

    def flush(self) -> None:
        """Make sure that the numbers survive a power cut."""
        self._log.flush()

    def _note(self, kind: str, **content: Any) -> None:
        try:
            self._log.append({"kind": kind, "time": time.time(), **content})
        except OSError as error:
            raise ConnectorError(f"Could not write to {self._log.path}: {error}") from error

    def _records(self, kind: str) -> Iterator[dict[str, Any]]:
        return (record for record in self._log.read() if record.get("kind") == kind)

    def _next_revision(self) -> str:
        """A name after all others; the random part keeps two uploads at the same moment apart."""
        known = self.revisions()
        number = int(known[-1].partition("-")[0]) + 1 if known else 1
        return f"{number:06d}-{uuid.uuid4().hex[:8]}"

    def _copy_file(self, source: Path, target: Path) -> str:
        """Copy a file so that it appears whole, and give its place below the folder."""
        check_file(source)
        part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, part)
            part.replace(target)
        except OSError as error:
            raise ConnectorError(f"Could not copy {source} to {target}: {error}") from error
        finally:
            part.unlink(missing_ok=True)
        return target.relative_to(self.folder).as_posix()


def _copy_folder(source: Path, target: Path) -> None:
    """Copy a folder so that it appears whole; whoever is replacing it meanwhile waits."""
    try:
        with open_archive(source) as held:
            save_archive(target, partial(_copy_contents, held))
    except ArchiveError as error:
        raise ConnectorError(f"Could not copy {source} to {target}: {error}") from error


def _copy_contents(source: Path, target: Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True)


def _file_name(name: str) -> str:
    """A name as one file name: nothing leaves the folder, and different names stay different."""
    quoted = quote(name, safe=" ")
    return f"%2E{quoted[1:]}" if quoted.startswith(".") else quoted
