"""Which checkpoints stay: the latest few and the best one."""

from __future__ import annotations

import json
import logging
import math
import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rl_framework.checkpoints.archive import save_archive
from rl_framework.checkpoints.file_system import FolderLock, flush
from rl_framework.checkpoints.locate import complete_steps, step_folder
from rl_framework.checkpoints.manifest import MANIFEST_FILE
from rl_framework.errors import ArchiveError, InvalidInputError

BEST_FILE = "best.json"
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CheckpointFolder:
    """Checkpoints of one run, `step_<environment steps>` each.

    Attributes:
        folder: Where they lie; made by the first save.
        keep_last: How many of the latest to keep; None keeps all.
        keep_best: Also keep the one with the highest score.
    """

    folder: Path
    keep_last: int | None = 3
    keep_best: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder).expanduser())
        if self.keep_last is not None and self.keep_last < 1:
            raise InvalidInputError(f"keep_last must be at least 1, or None to keep all; got {self.keep_last}.")

    def save(self, timesteps: int, write: Callable[[Path], None], score: float | None = None) -> Path:
        """Save a checkpoint in one step, then remove those that need not be kept.

        Args:
            timesteps: Environment steps so far; an earlier checkpoint at the same steps is replaced.
            write: Fills an empty folder, the manifest last.
            score: The higher the better; None or NaN leaves the best one as it is.

        Raises:
            InvalidInputError: `timesteps` is negative.
            ArchiveError: It cannot be written. The earlier checkpoints are untouched.
        """
        if timesteps < 0:
            raise InvalidInputError(f"timesteps must not be negative, got {timesteps}.")
        target = step_folder(self.folder, timesteps)
        save_archive(target, write)
        if score is not None and self._is_best(timesteps, score):
            self._mark_best(timesteps, float(score))
        self._prune(newest=timesteps)
        return target

    def steps(self) -> list[int]:
        """The environment steps of the complete checkpoints, rising."""
        return list(complete_steps(self.folder))

    def latest(self) -> Path | None:
        """The complete checkpoint with the most environment steps."""
        found = complete_steps(self.folder)
        return found[max(found)] if found else None

    def best(self) -> Path | None:
        """The complete checkpoint with the highest score, None if none was given a score."""
        record = self._best_record()
        return complete_steps(self.folder).get(record[0]) if record is not None else None

    def best_score(self) -> float | None:
        """The score of `best()`."""
        record = self._best_record()
        return record[1] if record is not None and record[0] in complete_steps(self.folder) else None

    def _is_best(self, timesteps: int, score: float) -> bool:
        """Whether it beats the best one, or that one is gone: removed, or just replaced at the same steps."""
        if math.isnan(score):
            return False
        record = self._best_record()
        return record is None or score > record[1] or record[0] == timesteps or self.best() is None

    def _best_record(self) -> tuple[int, float] | None:
        file = self.folder / BEST_FILE
        try:
            record: Any = json.loads(file.read_bytes())
            return int(record["timesteps"]), float(record["score"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s is not readable, so no checkpoint counts as the best: %s", file, error)
            return None

    def _mark_best(self, timesteps: int, score: float) -> None:
        staging = self.folder / f".{BEST_FILE}.saving"
        try:
            staging.write_text(json.dumps({"timesteps": timesteps, "score": score}), encoding="ascii")
            flush(staging)
            staging.replace(self.folder / BEST_FILE)
            flush(self.folder)
        except OSError as error:
            raise ArchiveError(f"Cannot write {self.folder / BEST_FILE}: {error}.") from error

    def _prune(self, newest: int) -> None:
        """Remove what need not be kept; what cannot be removed is tried again after the next save."""
        _remove_leftovers(self.folder)
        if self.keep_last is None:
            return
        found = complete_steps(self.folder)
        kept = {newest, *list(found)[-self.keep_last :]}
        record = self._best_record() if self.keep_best else None
        for timesteps, checkpoint in found.items():
            if timesteps not in kept and (record is None or timesteps != record[0]):
                remove_checkpoint(checkpoint)


def remove_checkpoint(checkpoint: Path) -> bool:
    """Remove a checkpoint so that a half removed one is never taken for a whole one.

    Returns:
        Whether it is gone; a checkpoint that somebody reads, or that cannot be removed, stays whole.
    """
    lock = FolderLock(checkpoint)
    doomed = checkpoint.parent / f".{checkpoint.name}.removing-{secrets.token_hex(6)}"
    try:
        if os.name == "posix" and not lock.acquire():
            return False
        checkpoint.rename(doomed)
        _remove_folder(doomed)
    except OSError as error:
        logger.warning("The checkpoint %s could not be removed: %s", checkpoint, error)
        return False
    finally:
        lock.release()
    return True


def _remove_folder(folder: Path) -> None:
    (folder / MANIFEST_FILE).unlink(missing_ok=True)
    shutil.rmtree(folder)


def _remove_leftovers(folder: Path) -> None:
    for doomed in folder.glob(".step_*.removing-*"):
        shutil.rmtree(doomed, ignore_errors=True)
