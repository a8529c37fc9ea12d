"""Whatever goes wrong with a player: our own error within the limit, the log in it, and nothing left behind."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Thread
from threading import enumerate as enumerate_threads
from typing import Any
from uuid import UUID

import numpy as np
import psutil
import pytest

from rl_framework.envs.unity.launch import UnityLaunch
from rl_framework.envs.unity.player import UnityPlayer
from rl_framework.errors import (
    EnvironmentFailure,
    EnvironmentTimeout,
    InvalidInputError,
    InvalidNumberError,
    RLFrameworkError,
    UnityFailure,
    UnityPlayerDied,
    UnityStopped,
    UnityTimeout,
    UnityVersionMismatch,
)
from tests.envs.unity.peer import channels
from tests.envs.unity.peer.connection import Connection, wrapped
from tests.envs.unity.peer.players import attached_player, make_player
from tests.envs.unity.peer.protocol import message
from tests.envs.unity.playing import (
    NAME,
    PATIENCE,
    assert_free,
    assert_nothing_left,
    free_port,
    opened,
    step,
)


def exchange_slowly(player: UnityPlayer) -> None:
    """What is sent to a player that has just gone may still be under way."""
    for _ in range(100):
        time.sleep(0.02)
        player.exchange()


def shell_player(folder: Path, commands: str) -> Path:
    """A player that is no game."""
    script = folder / "Broken.x86_64"
    script.write_text(f"#!/bin/sh\n{commands}\n")
    script.chmod(0o755)
    return script


@pytest.mark.parametrize(
    ("fault", "kind", "text"),
    [
        ("exit", UnityPlayerDied, "exit code 3"),
        ("kill", UnityPlayerDied, "SIGKILL"),
        ("hang", UnityTimeout, r"did not answer within 0\.5 s"),
        ("status", UnityStopped, "stopped"),
        ("nan_observation", InvalidNumberError, "sensor 'Reach' gave NaN"),
        ("nan_reward", InvalidNumberError, "reward is NaN or infinite for the agents"),
    ],
)
def test_a_fault_in_play_ends_the_player(tmp_path: Path, fault: str, kind: type[Exception], text: str) -> None:
    player = opened(tmp_path, fault=fault, fault_at=4)
    step(player, 2)
    if fault == "hang":
        player._wire._timeout = 0.5  # The limit of the launch would have to do for its start, too.
    start = time.monotonic()
    with pytest.raises(kind, match=text) as caught:
        step(player)

    assert time.monotonic() - start < 4.0
    assert isinstance(caught.value, EnvironmentFailure)
    assert player.closed
    assert_nothing_left(tmp_path)
    with pytest.raises(RLFrameworkError, match="closed"):
        player.exchange()
    player.close()


def test_an_error_tells_the_end_of_the_log(tmp_path: Path) -> None:
    player = opened(tmp_path, fault="exit", fault_at=2)
    with pytest.raises(UnityPlayerDied, match=r"End of the player's log:\n(.*\n)*.*a texture is missing") as caught:
        step(player)
    assert caught.value.log_tail[-1] == "The game breaks: a texture is missing."
    assert player.log_tail == caught.value.log_tail


@pytest.mark.parametrize("fault", ["die_before_handshake", "die_in_handshake"])
def test_a_player_that_dies_before_the_first_reset_is_noticed_at_once(tmp_path: Path, fault: str) -> None:
    start = time.monotonic()
    with pytest.raises(UnityPlayerDied, match="a texture is missing"):
        UnityPlayer(UnityLaunch(file=make_player(tmp_path, fault=fault), timeout=600.0))
    assert time.monotonic() - start < 15.0
    assert_nothing_left(tmp_path)


def test_a_player_that_never_calls_runs_into_the_limit(tmp_path: Path) -> None:
    script = shell_player(tmp_path, f'echo $$ > "{tmp_path}/pid"; echo Loading; exec sleep 300')
    start = time.monotonic()
    with pytest.raises(UnityTimeout, match=r"did not connect within 0\.5 s") as caught:
        UnityPlayer(UnityLaunch(file=script, timeout=0.5))
    assert time.monotonic() - start < 3.0
    assert isinstance(caught.value, EnvironmentTimeout)
    assert caught.value.log_tail == ("Loading",)
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def test_a_player_that_hangs_in_the_handshake_runs_into_the_limit() -> None:
    port = free_port()
    greeting = message("unity_output", "UnityOutputProto")()
    greeting.rl_initialization_output.communication_version = "1.5.0"
    game = Connection(port)
    caller = Thread(target=game.exchange, args=(wrapped(greeting),))
    caller.start()
    start = time.monotonic()
    with pytest.raises(UnityTimeout, match="did not finish the handshake within 1 s"):
        UnityPlayer(UnityLaunch(file=None, port=port, timeout=1.0))
    assert time.monotonic() - start < 4.0
    caller.join(PATIENCE)
    game.close()
    assert not caller.is_alive()
    assert_free(port)


def test_a_player_that_cannot_even_start_tells_why_in_its_output(tmp_path: Path) -> None:
    script = shell_player(tmp_path, "echo 'libfoo.so is missing' >&2; exit 127")
    with pytest.raises(UnityPlayerDied, match="exit code 127"):
        UnityPlayer(UnityLaunch(file=script, timeout=PATIENCE))
    with pytest.raises(UnityPlayerDied, match=r"libfoo\.so is missing"):
        UnityPlayer(UnityLaunch(file=script, timeout=PATIENCE))


def test_thirty_lines_of_a_log_are_enough(tmp_path: Path) -> None:
    script = shell_player(tmp_path, 'shift 5; seq 100 > "$1"; exit 1')
    with pytest.raises(UnityPlayerDied) as caught:
        UnityPlayer(UnityLaunch(file=script, timeout=PATIENCE))
    assert caught.value.log_tail == tuple(str(number) for number in range(71, 101))


def test_another_version_of_the_protocol_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnityVersionMismatch, match=r"version 2\.0\.0 .*package 9\.9.*expected 1\.5\.0"):
        UnityPlayer(UnityLaunch(file=make_player(tmp_path, api_version="2.0.0", package_version="9.9")))
    assert_nothing_left(tmp_path)


def test_messages_have_no_limit_and_older_minor_versions_fit(tmp_path: Path) -> None:
    player = opened(tmp_path, fault="oversize", fault_at=2, api_version="1.2.0")
    step(player, 3)
    assert len(player.steps(NAME)[0]) == 1
    player.close()
    assert_nothing_left(tmp_path)
    for thread in enumerate_threads():
        if thread.name == "unity-wire":
            thread.join(5.0)
            assert not thread.is_alive()


def test_an_editor_that_nobody_starts_runs_into_the_limit() -> None:
    port = free_port()
    with pytest.raises(UnityTimeout, match=r"did not connect within 0\.3 s"):
        UnityPlayer(UnityLaunch(file=None, port=port, timeout=0.3))
    assert_free(port)


def test_an_attached_player_that_goes_away_while_we_think_is_noticed_at_once(tmp_path: Path) -> None:
    port = free_port()
    with attached_player(tmp_path, port) as process:
        player = UnityPlayer(UnityLaunch(file=None, port=port, timeout=PATIENCE))
        player.reset()
        step(player, 3)
        process.kill()
        process.wait()
        start = time.monotonic()
        with pytest.raises(UnityPlayerDied, match="went away"):
            exchange_slowly(player)
        assert time.monotonic() - start < 5.0
    assert player.closed
    assert_free(port)


class FailingChannel:
    """A user's side channel with a mistake."""

    @staticmethod
    def make() -> Any:
        from rl_framework.envs.unity.package import SideChannel

        class Failing(SideChannel):  # type: ignore[misc]  # the package has no types
            def on_message_received(self, msg: Any) -> None:
                raise ZeroDivisionError(str(msg))

        return Failing(UUID(str(channels.OWN)))


def test_any_error_inside_an_exchange_closes_since_the_next_answer_would_be_stale(tmp_path: Path) -> None:
    game = make_player(tmp_path, foreign_channel=True)
    player = UnityPlayer(UnityLaunch(file=game), [FailingChannel.make()])
    with pytest.raises(ZeroDivisionError):
        player.reset()
    assert player.closed
    assert_nothing_left(tmp_path)


def test_wrong_actions_are_refused_and_nothing_is_sent(tmp_path: Path) -> None:
    player = opened(tmp_path, agents=2)
    for continuous, discrete in [
        (np.zeros((1, 1), np.float32), None),
        (np.zeros((2, 2), np.float32), None),
        (None, None),
        (np.zeros((2, 1), np.float32), np.zeros((2, 1), np.int32)),
    ]:
        with pytest.raises(InvalidInputError, match=r"must have shape \(2, [01]\)"):
            player.act(NAME, continuous, discrete)
    with pytest.raises(InvalidInputError, match="no behaviour 'Fly'; it has 'Reach\\?team=0'"):
        player.steps("Fly")
    with pytest.raises(InvalidInputError, match="finite"):
        player.set_parameter("gravity", float("nan"))
    step(player, 3)
    player.close()


def test_failures_carry_the_player_and_the_log() -> None:
    error = UnityTimeout("slow", row=2, log_tail=["one", "two"])
    assert str(error) == "Environment 2: slow\n\nEnd of the player's log:\none\ntwo"
    assert (error.row, error.log_tail) == (2, ("one", "two"))
    assert str(UnityFailure("gone")) == "Environment 0: gone"
