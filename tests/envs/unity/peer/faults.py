"""What goes wrong on demand."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from tests.envs.unity.peer import channels
from tests.envs.unity.peer.log import say
from tests.envs.unity.peer.protocol import CLOSING
from tests.envs.unity.peer.world import World

HANGING_SECONDS = 120.0
EXIT_CODE = 3
OVERSIZE = 5 * 2**20


def hang() -> NoReturn:
    """Do nothing, for so long that everybody gives up before."""
    say("The game hangs.")
    time.sleep(HANGING_SECONDS)
    sys.exit(EXIT_CODE)


def die() -> NoReturn:
    """Leave with an exit code and a last word."""
    say("The game breaks: a texture is missing.")
    sys.exit(EXIT_CODE)


def before_handshake(world: World) -> None:
    """Faults before the first call."""
    if world.fault == "die_before_handshake":
        die()
    if world.fault == "hang_before_handshake":
        hang()


def in_handshake(world: World) -> None:
    """Faults between the two calls of the handshake."""
    if world.fault == "die_in_handshake":
        die()
    if world.fault == "hang_in_handshake":
        hang()


def at_quit(world: World) -> None:
    """Faults after Python said that it is closing."""
    if world.fault == "hang_at_quit":
        hang()


def at_exchange(world: World, said: Any) -> None:
    """Faults of one exchange: change what is said, or do not come to say it."""
    happens: dict[str, Callable[[], object]] = {
        "exit": die,
        "silent_exit": lambda: sys.exit(EXIT_CODE),
        "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "hang": hang,
        "status": lambda: setattr(said.header, "status", CLOSING),
        "nan_observation": lambda: _spoil_observation(said),
        "nan_reward": lambda: _spoil_reward(said, float("nan")),
        "inf_reward": lambda: _spoil_reward(said, float("inf")),
        "oversize": lambda: _grow(said),
    }
    if world.fault in happens:
        happens[world.fault]()


def _first_info(said: Any) -> Any:
    infos = said.unity_output.rl_output.agentInfos
    return infos[sorted(infos)[0]].value[0]


def _spoil_observation(said: Any) -> None:
    _first_info(said).observations[0].float_data.data[0] = float("nan")


def _spoil_reward(said: Any, value: float) -> None:
    _first_info(said).reward = value


def _grow(said: Any) -> None:
    said.unity_output.rl_output.side_channel += channels.pack(channels.OWN, bytes(OVERSIZE))
