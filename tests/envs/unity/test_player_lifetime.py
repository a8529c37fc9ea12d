"""A player lives as long as its owner wants it: ports, closing, collecting, forks, the end of Python."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from multiprocessing.connection import Connection as PipeEnd
from pathlib import Path
from threading import Thread
from threading import enumerate as enumerate_threads

import psutil
import pytest

from rl_framework.envs.unity import player as player_module
from rl_framework.envs.unity.launch import UnityLaunch
from rl_framework.envs.unity.player import UnityPlayer
from rl_framework.errors import InvalidInputError, RLFrameworkError, UnityPortInUse, UnityTimeout
from tests.envs.unity.peer.book import read_book
from tests.envs.unity.peer.connection import Connection, wrapped
from tests.envs.unity.peer.players import make_player
from tests.envs.unity.playing import (
    PATIENCE,
    assert_free,
    assert_freed,
    assert_nothing_left,
    free_port,
    opened,
    step,
)


def test_a_port_that_is_taken_is_named_and_no_player_started(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        before = set(enumerate_threads())
        with pytest.raises(UnityPortInUse, match=f"Port {port} of 127.0.0.1 .*in use") as caught:
            UnityPlayer(UnityLaunch(file=make_player(tmp_path), port=port))
        for thread in set(enumerate_threads()) - before:
            thread.join(5.0)
            assert not thread.is_alive(), caught  # Whoever keeps the error keeps no thread.
    assert read_book(tmp_path).remarks == ()


def test_two_players_cannot_share_a_port(tmp_path: Path) -> None:
    first = opened(tmp_path / "first")
    with pytest.raises(UnityPortInUse):
        UnityPlayer(UnityLaunch(file=make_player(tmp_path / "second"), port=first.port))
    step(first)
    first.close()
    assert_free(first.port)


def test_a_second_game_at_the_same_port_is_turned_away(tmp_path: Path) -> None:
    player = opened(tmp_path)
    intruder = Connection(player.port)
    answers: list[Exception] = []
    caller = Thread(target=lambda: answers.append(refusal(intruder)))
    caller.start()
    while caller.is_alive():
        step(player)
    intruder.close()
    assert "Another player has called before" in str(answers[0])
    step(player, 3)
    player.close()


def refusal(game: Connection) -> Exception:
    """What a game is told that calls where another one plays."""
    with pytest.raises(Exception, match="FAILED_PRECONDITION") as caught:
        game.exchange(wrapped())
    return caught.value


def test_an_address_that_is_not_ours_is_named() -> None:
    for host in ("192.0.2.1", "no such host"):
        with pytest.raises(InvalidInputError, match=rf"Expected an address of this machine .*'{host}'"):
            UnityPlayer(UnityLaunch(file=None, host=host, port=free_port(), timeout=0.2))


def test_closing_a_player_that_hangs_kills_it_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player_module, "CLOSE_SECONDS", 0.3)
    player = opened(tmp_path, fault="hang_at_quit")
    start = time.monotonic()
    player.close()
    assert time.monotonic() - start < 4.0
    assert_nothing_left(tmp_path)
    player.close()


def test_a_player_goes_with_all_that_it_started(tmp_path: Path) -> None:
    game = make_player(tmp_path / "game")
    script = tmp_path / "Wrapped.x86_64"
    script.write_text(f'#!/bin/sh\nsleep 300 &\necho $! > "{tmp_path}/child"\n"{game}" "$@"\n')
    script.chmod(0o755)
    player = UnityPlayer(UnityLaunch(file=script, timeout=PATIENCE))
    child = int((tmp_path / "child").read_text())
    assert psutil.pid_exists(child)
    player.close()
    psutil.wait_procs([psutil.Process(child)] if psutil.pid_exists(child) else [], timeout=5.0)
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE
    assert_nothing_left(tmp_path / "game")


def test_a_player_that_nobody_refers_to_is_killed(tmp_path: Path) -> None:
    player = opened(tmp_path)
    step(player)
    port = player.port
    del player
    gc.collect()
    assert_freed(port, within=5.0)
    assert_nothing_left(tmp_path)


def test_python_ends_at_once_although_a_player_is_open(tmp_path: Path) -> None:
    code = f"""
        from rl_framework.envs.unity.launch import UnityLaunch
        from rl_framework.envs.unity.player import UnityPlayer
        kept = UnityPlayer(UnityLaunch(file={str(make_player(tmp_path))!r}))
        kept.reset()
        print("played")
    """
    start = time.monotonic()
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "played\n", "")
    assert time.monotonic() - start < 20.0
    assert_nothing_left(tmp_path)


def outcome(call: Callable[[], object]) -> str:
    try:
        call()
    except RLFrameworkError as error:
        return f"{type(error).__name__}: {error}"
    return "fine"


def uses(player: UnityPlayer) -> list[str]:
    """What comes of each way to use a player, and of starting another."""
    calls = (player.exchange, player.reset, lambda: UnityPlayer(UnityLaunch(file=None, timeout=0.1)))
    return [outcome(call) for call in calls]


def is_refused(found: str) -> bool:
    return found.startswith("EnvironmentFailure: Environment 0: This process was forked while a Unity player was open")


def test_another_process_than_the_owner_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    player = opened(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        found = uses(player)
    assert all(map(is_refused, found))
    step(player, 2)
    player.close()
    assert_nothing_left(tmp_path)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(UnityTimeout):  # What was closed before a fork is in nobody's way.
        UnityPlayer(UnityLaunch(file=None, port=free_port(), timeout=0.1))


def use_in_a_fork(player: UnityPlayer, answers: PipeEnd) -> None:
    for found in uses(player):
        answers.send(found)
    player.close()
    answers.send("closed")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_can_do_nothing_to_the_player(tmp_path: Path) -> None:
    player = opened(tmp_path)
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=use_in_a_fork, args=(player, theirs))
    child.start()
    theirs.close()
    child.join(PATIENCE)
    found = []
    with contextlib.suppress(EOFError):  # It may crash at any time: gRPC does not survive a fork.
        while ours.poll(PATIENCE):
            found.append(ours.recv())

    assert not child.is_alive()
    assert all(is_refused(one) for one in found[:3])
    assert found[3:] in ([], ["closed"])
    step(player, 2)
    player.close()
    assert_nothing_left(tmp_path)
