"""From what a person points at (an agent, a checkpoint folder, a run) to the saved agent that is meant."""

from __future__ import annotations

import re
from pathlib import Path

from rl_framework.checkpoints.archive import existing_archive
from rl_framework.checkpoints.manifest import MANIFEST_FILE, Manifest, is_complete
from rl_framework.errors import ArchiveError, MissingArchiveError

AGENT_FOLDER = "agent"
CHECKPOINT_FOLDER = "checkpoints"
STEP_NAME = re.compile(r"step_(\d+)")


def find_agent(path: str | Path) -> Path:
    """The saved agent that a path means.

    Args:
        path: A saved agent (folder or zip), a folder of checkpoints (`step_000000000200`, ...; the latest complete
            one is meant), or a run's folder with `agent` or `checkpoints` in it (of both, the one with more steps).

    Raises:
        MissingArchiveError: There is none; the message says what was looked for.
    """
    place = existing_archive(path)
    if place.is_file() or (place / MANIFEST_FILE).is_file():
        return place
    found = _latest_step(place) or _in_run(place)
    if found is None:
        raise MissingArchiveError(
            f"No saved agent in {place}: it holds neither {MANIFEST_FILE}, nor a complete checkpoint (step_...), nor "
            f"the folders {AGENT_FOLDER} or {CHECKPOINT_FOLDER} with one. It holds {_content(place)}."
        )
    return found


def step_folder(folder: Path, timesteps: int) -> Path:
    """Where the checkpoint at that many environment steps lies."""
    return folder / f"step_{timesteps:012d}"


def complete_steps(folder: Path) -> dict[int, Path]:
    """The complete checkpoints of a folder by their environment steps, in rising order."""
    if not folder.is_dir():
        return {}
    named = [(STEP_NAME.fullmatch(child.name), child) for child in folder.iterdir()]
    found = {int(match[1]): child for match, child in named if match is not None and is_complete(child)}
    return dict(sorted(found.items()))


def _latest_step(folder: Path) -> Path | None:
    steps = complete_steps(folder)
    return steps[max(steps)] if steps else None


def _in_run(run: Path) -> Path | None:
    """The agent wins a tie: it was saved when the run ended."""
    agent, checkpoint = _whole(run / AGENT_FOLDER), _latest_step(run / CHECKPOINT_FOLDER)
    if agent is None or checkpoint is None:
        return agent or checkpoint
    return agent if _timesteps(agent) >= _timesteps(checkpoint) else checkpoint


def _whole(path: Path) -> Path | None:
    try:
        place = existing_archive(path)
    except MissingArchiveError:
        return None
    return place if is_complete(place) else None


def _timesteps(agent: Path) -> int:
    """Of a checkpoint whose manifest only a newer version reads, the steps in its name."""
    try:
        return Manifest.read(agent, verify=False).timesteps
    except ArchiveError:
        match = STEP_NAME.fullmatch(agent.name)
        return int(match[1]) if match is not None else 0


def _content(folder: Path) -> str:
    names = sorted(child.name for child in folder.iterdir())
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "") if names else "nothing"
