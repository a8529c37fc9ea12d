"""Saves without end in a child process, kills it at random moments, and reads what is there after each kill.

Run as `python kill_saves.py <path> <kills> <swap | aside>`; prints how many kills fell into the middle of a save.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from itertools import count
from pathlib import Path
from typing import NoReturn
from unittest.mock import patch

from rl_framework.checkpoints import archive
from rl_framework.checkpoints.archive import save_archive
from rl_framework.checkpoints.file_system import exchange
from tests.checkpoints.agents import small_agent, steps_of


def save_without_end(path: Path, first: int, confirmed: int) -> NoReturn:
    for number in count(first):
        save_archive(path, small_agent(number))
        os.write(confirmed, number.to_bytes(4, "big"))
    raise AssertionError("unreachable")


def kill_once(path: Path, before: int) -> int:
    """Returns the version that was confirmed last; the one on the disk must be that one or the next."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        save_without_end(path, before + 1, writer)
    os.close(writer)
    time.sleep(random.uniform(0.0, 0.05))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as pipe:
        numbers = pipe.read()
    return int.from_bytes(numbers[-4:], "big") if numbers else before


def main(path: Path, kills: int) -> None:
    save_archive(path, small_agent(1))
    version, interrupted = 1, 0
    for _ in range(kills):
        confirmed = kill_once(path, version)
        version = steps_of(path)
        if version not in (confirmed, confirmed + 1):
            raise SystemExit(f"confirmed was version {confirmed}, but version {version} is on the disk")
        interrupted += len(list(path.parent.iterdir())) > 1
    save_archive(path, small_agent(version + 1))
    left = [child.name for child in path.parent.iterdir()]
    if left != [path.name] or steps_of(path) != version + 1:
        raise SystemExit(f"the next save left {left}")
    sys.stdout.write(f"{interrupted}\n")


if __name__ == "__main__":
    random.seed(0)
    able = {"swap": exchange, "aside": lambda first, second: False}
    with patch.object(archive, "exchange", able[sys.argv[3]]):
        main(Path(sys.argv[1]), int(sys.argv[2]))
