"""Where an operating system wants programs to keep what belongs to a user."""

from __future__ import annotations

import os
import sys
from pathlib import Path

NAME = "rl_framework"


def data_folder() -> Path:
    """For what must not be lost. It is not made here.

    Source: XDG Base Directory Specification 0.8 (`XDG_DATA_HOME`), and its like on macOS and Windows.
    """
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / NAME
    if sys.platform == "win32":
        return _from_environment("LOCALAPPDATA", Path.home() / "AppData" / "Local") / NAME
    return _from_environment("XDG_DATA_HOME", Path.home() / ".local" / "share") / NAME


def cache_folder() -> Path:
    """For what can be fetched again. It is not made here."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / NAME
    if sys.platform == "win32":
        return _from_environment("LOCALAPPDATA", Path.home() / "AppData" / "Local") / NAME / "Cache"
    return _from_environment("XDG_CACHE_HOME", Path.home() / ".cache") / NAME


def _from_environment(variable: str, default: Path) -> Path:
    """Relative paths are to be ignored, says the specification."""
    given = Path(os.environ.get(variable, ""))
    return given if given.is_absolute() else default
