"""The greatest resident memory of this process, counted from any moment on."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

MEGABYTE = 2**20


def restart_peak() -> int:
    """Bytes held now, from which the peak is counted again; where the system cannot, the peak so far."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak of resident memory starts again from here
    except OSError:
        return peak_of_process()
    return _status("VmRSS")


def peak_of_process() -> int:
    """The most bytes that were held since the start, or since `restart_peak`."""
    try:
        return _status("VmHWM")
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
