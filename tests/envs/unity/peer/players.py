"""Makes players of the peer's game for tests: executables that are launched, and processes that call a port."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.envs.unity.peer.world import make_world

REPOSITORY = Path(__file__).parents[4]
NAME = "Game.x86_64"


def make_player(folder: Path, **settings: Any) -> Path:
    """Write an executable that plays the game, and give its path; its book is in the same folder.

    Args:
        folder: Empty; made if it is not there.
        **settings: Of the world and its first behaviour, see `make_world`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / NAME
    module = [sys.executable, "-m", "tests.envs.unity.peer", "--world", str(_write_world(folder, settings))]
    path = f"{REPOSITORY / 'src'}{os.pathsep}{REPOSITORY}"
    script.write_text(
        f'#!/bin/sh\nexport PYTHONPATH={shlex.quote(path)} OMP_NUM_THREADS=1\nexec {shlex.join(module)} "$@"\n'
    )
    script.chmod(0o755)
    return script


@contextmanager
def attached_player(folder: Path, port: int, **settings: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A game that calls a port of its own accord, as the Editor does, stopped on leaving.

    Args:
        folder: For its book and its log, `Player.log`.
        port: Where Python listens, now or soon.
        **settings: Of the world and its first behaviour, see `make_world`.
    """
    script = make_player(folder, **settings)
    process = subprocess.Popen(
        [script, "--mlagents-port", str(port), "-logFile", str(folder.absolute() / "Player.log")]
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(timeout=10)


def _write_world(folder: Path, settings: dict[str, Any]) -> Path:
    file = folder.absolute() / "world.json"
    file.write_text(json.dumps(make_world(**settings).to_dict()))
    return file
