"""What tests of players share: one that plays, and a look at what it leaves behind."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from rl_framework.envs.unity.launch import UnityLaunch
from rl_framework.envs.unity.player import UnityPlayer
from tests.envs.unity.peer.book import read_book
from tests.envs.unity.peer.players import make_player

NAME = "Reach?team=0"
PATIENCE = 30.0


def opened(folder: Path, **world: Any) -> UnityPlayer:
    """A player after its first reset."""
    player = UnityPlayer(UnityLaunch(file=make_player(folder, **world), timeout=PATIENCE))
    player.reset()
    return player


def step(player: UnityPlayer, times: int = 1) -> None:
    """Let everybody stand still."""
    for _ in range(times):
        decisions, _ = player.steps(NAME)
        player.act(NAME, np.zeros((len(decisions), 1), np.float32), None)
        player.exchange()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def assert_nothing_left(folder: Path) -> None:
    """No process of a folder's games runs, and nobody holds their ports."""
    remarks = [remark for remark in read_book(folder).remarks if remark.kind == "start"]
    assert remarks
    for remark in remarks:
        assert not psutil.pid_exists(remark.player)
        assert_free(remark.values["port"])


def assert_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))


def assert_freed(port: int, within: float) -> None:
    """Somebody lets go of a port in the background."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            return assert_free(port)
        time.sleep(0.05)
    raise AssertionError(f"port {port} is still taken after {within} s")
