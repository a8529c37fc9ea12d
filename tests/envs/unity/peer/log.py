"""What the game prints: to its output, or into the file that `-logFile` names."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def say(text: str) -> None:
    """Print a line, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def redirect_output(path: Path) -> None:
    """Send everything that is printed into a file, as the original does."""
    with path.open("a") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
