"""Calls of launch scripts, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ANALYTIC = Path(__file__).with_name("analytic_script.py")


def start_script(*words: str | Path, folder: Path, script: Path = ANALYTIC) -> subprocess.CompletedProcess[str]:
    """Run a script in a folder, and give how it ended."""
    return subprocess.run(
        [sys.executable, str(script), *map(str, words)],
        cwd=folder,
        env={**os.environ, "RL_FRAMEWORK_TEST_MARK": str(folder / "mark")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def run_script(*words: str | Path, folder: Path, script: Path = ANALYTIC) -> str:
    """Run a script that must succeed, and give what it printed."""
    done = start_script(*words, folder=folder, script=script)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def read_json(path: Path) -> Any:
    """The value in a JSON file."""
    return json.loads(path.read_text())
