"""Saved agents of a few bytes, for the tests of what saves, finds and reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rl_framework.checkpoints.archive import open_archive
from rl_framework.checkpoints.manifest import Manifest
from rl_framework.checkpoints.state_tree import read_state, write_state


def small_agent(timesteps: int, **fields: Any) -> Callable[[Path], None]:
    """Writes an agent whose weights all equal its steps."""

    def write(folder: Path) -> None:
        (folder / "training_state").mkdir()
        write_state(folder, "policy", {"weights": np.full(100, timesteps)})
        write_state(folder / "training_state", "counters", {"steps": timesteps})
        Manifest(kind="native", algorithm="rl_framework:Nothing", timesteps=timesteps, **fields).write(folder)

    return write


def steps_of(path: Path) -> int:
    """Reads and verifies such an agent."""
    with open_archive(path) as folder:
        timesteps = Manifest.read(folder).timesteps
        assert (read_state(folder, "policy")["weights"] == timesteps).all()
        assert read_state(folder / "training_state", "counters") == {"steps": timesteps}
    return timesteps


def names(folder: Path) -> list[str]:
    """What lies in a folder, hidden files included."""
    return sorted(child.name for child in folder.iterdir())
