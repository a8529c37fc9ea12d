"""Checkpoints of a training by several processes: what they have in common once, and of each what is its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from rl_framework.algorithms.processes import OneProcess, Processes
from rl_framework.checkpoints.file_system import flush_tree
from rl_framework.checkpoints.locate import step_folder
from rl_framework.checkpoints.manifest import Manifest
from rl_framework.checkpoints.retention import CheckpointFolder
from rl_framework.checkpoints.state_tree import read_state, write_state
from rl_framework.errors import ArchiveError, InvalidInputError, RLFrameworkError

KIND = "training by several processes"
SHARED = "shared"
STATE = "state"
NONE_YET = -1

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedTraining:
    """What a process finds when it starts again.

    Attributes:
        step: The number under which it was saved.
        shared: What all processes had in common, as process 0 gave it.
        own: What this process gave.
    """

    step: int
    shared: Any
    own: Any


class DistributedCheckpoints:
    """A folder of checkpoints that all processes of a training write together.

    A checkpoint is a folder, `step_<number>`, with the folders `shared` and `rank_00000`, `rank_00001`, ... in it. It
    appears in one step once every process has written its part: whoever is killed at any moment, the latest one is
    whole. Each verb is a meeting; if it fails in one process, it raises in all.

    Args:
        folder: Where they lie; one that all processes see, so on a shared disk if there are several machines.
        processes: Those that train together.
        keep_last: How many of the latest to keep; None keeps all.
        keep_best: Also keep the one with the highest score.

    Raises:
        InvalidInputError: `keep_last` is below 1.
    """

    def __init__(
        self,
        folder: str | Path,
        processes: Processes | None = None,
        *,
        keep_last: int | None = 3,
        keep_best: bool = True,
    ) -> None:
        self._processes = processes or OneProcess()
        self._checkpoints = CheckpointFolder(Path(folder), keep_last=keep_last, keep_best=keep_best)
        self.folder = self._checkpoints.folder

    def save(self, step: int, *, shared: Any, own: Any, score: float | None = None) -> Path:
        """Save a checkpoint in one step, then remove those that need not be kept.

        Args:
            step: How far the training is, the same in all processes; updates, or environment steps of all.
            shared: What all processes have in common, a plain tree. Process 0 writes it; that of others is not read.
            own: What differs: random generators, episodes, environments. A plain tree, written by each process.
            score: The higher the better; process 0's counts, None leaves the best one as it is.

        Raises:
            ArchiveError: A process could not write. The earlier checkpoints are untouched.
            InvalidInputError: `step` is negative.
        """
        self._together("write its part of a checkpoint", lambda: self._write_part(step, own))
        if self._processes.rank == 0:
            self._together("put a checkpoint in its place", lambda: self._assemble(step, shared, score))
        else:
            self._together("put a checkpoint in its place", _nothing)
        return step_folder(self.folder, step)

    def load_latest(self) -> SavedTraining | None:
        """The checkpoint with the highest number, None if there is none; all processes get the same one.

        Raises:
            InvalidInputError: Another number of processes wrote it.
            ArchiveError: It is damaged, or something else.
        """
        latest = self._together("look for checkpoints", self._latest_step)
        mine = latest if self._processes.rank == 0 else 0
        step = int(self._processes.sum(torch.tensor(mine)).item())
        if step == NONE_YET:
            return None
        return self._together("read a checkpoint", lambda: self._read(step))

    def _write_part(self, step: int, own: Any) -> None:
        part = self._parts(step) / _rank_name(self._processes.rank)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        write_state(part, STATE, own)
        flush_tree(part)

    def _assemble(self, step: int, shared: Any, score: float | None) -> None:
        self._checkpoints.save(step, lambda content: self._fill(content, step, shared), score=score)
        for parts in self.folder.glob(".step_*.parts"):
            shutil.rmtree(parts, ignore_errors=True)

    def _fill(self, content: Path, step: int, shared: Any) -> None:
        for name in map(_rank_name, range(self._processes.count)):
            part = self._parts(step) / name
            if not part.is_dir():
                raise ArchiveError(
                    f"{part} is missing: {name} wrote it where process 0 does not see it. Give a folder that all "
                    "processes see."
                )
            part.rename(content / name)
        (content / SHARED).mkdir()
        write_state(content / SHARED, STATE, shared)
        options = {"processes": self._processes.count}
        Manifest(kind=KIND, algorithm="", options=options, timesteps=step).write(content)

    def _read(self, step: int) -> SavedTraining:
        folder = step_folder(self.folder, step)
        manifest = Manifest.read(folder, verify=False)
        self._check_origin(manifest, folder)
        own_name = _rank_name(self._processes.rank)
        wanted = {name: file for name, file in manifest.files.items() if name.split("/")[0] in (SHARED, own_name)}
        replace(manifest, files=wanted).check_files(folder)
        return SavedTraining(
            step=step, shared=read_state(folder / SHARED, STATE), own=read_state(folder / own_name, STATE)
        )

    def _check_origin(self, manifest: Manifest, folder: Path) -> None:
        if manifest.kind != KIND:
            raise ArchiveError(
                f"{folder} is a saved agent of kind {manifest.kind!r}, no checkpoint of a {KIND}. Give the folder of "
                "such a training, or a new one."
            )
        before, now = manifest.options["processes"], self._processes.count
        if before != now:
            raise InvalidInputError(
                f"The checkpoint {folder} was written by {before} processes, and {now} read it; what belongs to each "
                f"of them cannot be divided anew. Start {before} processes, or begin again in another folder."
            )

    def _latest_step(self) -> int:
        return max(self._checkpoints.steps(), default=NONE_YET) if self._processes.rank == 0 else NONE_YET

    def _parts(self, step: int) -> Path:
        target = step_folder(self.folder, step)
        return target.parent / f".{target.name}.parts"

    def _together(self, verb: str, work: Callable[[], Result]) -> Result:
        """Do something that may fail, and go on only if it failed nowhere: nobody waits for one that gave up."""
        result, failure = _attempt(work)
        failed = self._processes.largest(-1.0 if failure is None else self._processes.rank)
        if failure is not None:
            raise failure
        if failed >= 0.0:
            raise ArchiveError(f"Process {failed:.0f} could not {verb} in {self.folder}; its own error says why.")
        return result  # type: ignore[return-value]  # only a failure gives none


def _attempt(work: Callable[[], Result]) -> tuple[Result | None, RLFrameworkError | None]:
    try:
        return work(), None
    except RLFrameworkError as error:
        return None, error
    except OSError as error:
        return None, _as_archive_error(error)


def _as_archive_error(cause: OSError) -> ArchiveError:
    error = ArchiveError(f"A checkpoint cannot be read or written: {cause}.")
    error.__cause__ = cause
    return error


def _nothing() -> None:
    """What a process does while another one works."""


def _rank_name(rank: int) -> str:
    return f"rank_{rank:05d}"
