"""Starts scripts in several processes on this machine, and leaves nothing running."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
PATIENCE = 240.0
"""Seconds."""
SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    # Without it, torchrun 2.13 cannot start processes again after one died.
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
}


@contextmanager
def launched(
    script: Path, *words: str, folder: Path, restarts: int = 0, settings: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Two processes of a script under `torchrun`, for the length of a block; all are gone after it.

    Args:
        script: Python file.
        *words: Its arguments.
        folder: Where it runs.
        restarts: How often they may be started again after one died.
        settings: Further environment variables.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["--max-restarts", str(restarts), "--monitor-interval", "0.05", str(script), *words]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **SETTINGS, "PYTHONPATH": str(ROOT), **(settings or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        _end(process)


def finished(process: subprocess.Popen[str]) -> str:
    """Wait for the end; what was printed.

    Raises:
        RuntimeError: It failed; the message holds what it wrote to the standard error.
    """
    printed, complaints = process.communicate(timeout=PATIENCE)
    if process.returncode:
        raise RuntimeError(f"exit status {process.returncode}:\n{complaints[-5000:]}")
    return printed


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes that the launcher has started and that still run."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(process.pid).children(recursive=True)
    return []


def _end(process: subprocess.Popen[str]) -> None:
    for worker in workers(process):
        with suppress(psutil.NoSuchProcess):
            worker.kill()
    process.kill()
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
