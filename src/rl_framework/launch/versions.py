"""What a run was made with: Python, the machine, the libraries, and the commit of the script."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = ("accelerate", "optuna", "PyYAML")
PATIENCE = 10.0


def versions(script: Path | None) -> dict[str, Any]:
    """The versions, as JSON holds them.

    Args:
        script: The script that runs, None if there is none.
    """
    from rl_framework.checkpoints.manifest import library_versions, utc_now

    libraries = library_versions()
    python = libraries.pop("python")
    return {
        "started": utc_now(),
        "python": python,
        "platform": platform.platform(),
        "libraries": {**libraries, **_installed(LIBRARIES)},
        "script": None if script is None else str(script),
        "arguments": sys.argv[1:],
        "git": None if script is None else git_state(script.parent),
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """The commit that a folder stands at, and whether tracked files differ from it; None outside of a repository.

    Nothing is changed: git is told to write no index.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "changed": None if changes is None else bool(changes)}


def _installed(libraries: tuple[str, ...]) -> dict[str, str]:
    found = {name: _version_of(name) for name in libraries}
    return {name: version for name, version in found.items() if version is not None}


def _version_of(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def _git(folder: Path, *words: str) -> str | None:
    program = shutil.which("git")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "--no-optional-locks", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
