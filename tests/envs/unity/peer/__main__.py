"""Plays a Unity game's part: `python -m tests.envs.unity.peer --world FILE --mlagents-port N [-logFile F] ...`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["GRPC_VERBOSITY"] = "NONE"

import grpc  # it ships no types

from tests.envs.unity.peer import faults
from tests.envs.unity.peer.book import BookWriter
from tests.envs.unity.peer.connection import Connection, wrapped
from tests.envs.unity.peer.game import Game
from tests.envs.unity.peer.log import redirect_output, say
from tests.envs.unity.peer.protocol import GO_ON, QUIT, RESET, message
from tests.envs.unity.peer.world import World

EDITOR_PORT = 5004
MOST_SILENT_TICKS = 10_000


def main(arguments: list[str]) -> int:
    """Play until Python closes or is gone."""
    options, others = parsed(arguments)
    if options.logFile is not None:
        redirect_output(options.logFile)
    world = read_world(options.world)
    book = BookWriter(options.world.parent / f"book-{os.getpid()}.jsonl", os.getpid())
    book.remark("start", arguments=arguments, others=others, port=options.port)
    say(f"The game starts on port {options.port}.")
    faults.before_handshake(world)
    connection = Connection(options.port)
    try:
        play(connection, world, book)
    except grpc.RpcError as error:
        say(f"Python is gone: {error.code()}")
        return 1
    finally:
        connection.close()
    faults.at_quit(world)
    return 0


def read_world(file: Path) -> World:
    """The world of the configuration file, without its fault if enough games had it."""
    world = World.from_dict(json.loads(file.read_text()))
    n_before = len(list(file.parent.glob("book-*.jsonl")))
    return world if world.fault_starts is None or n_before < world.fault_starts else replace(world, fault=None)


def parsed(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """What the command line says, and what else is on it."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--world", type=Path, required=True)
    parser.add_argument("--mlagents-port", dest="port", type=int, default=EDITOR_PORT)
    parser.add_argument("-logFile", type=Path)
    parser.add_argument("-nographics", action="store_true")
    parser.add_argument("-batchmode", action="store_true")
    return parser.parse_known_args(arguments)


def play(connection: Connection, world: World, book: BookWriter) -> None:
    """Handshake, first reset, then tick by tick."""
    game = shake_hands(connection, world, book)
    faults.in_handshake(world)
    answer = connection.exchange(wrapped())
    exchanges = 0
    while goes_on(answer, book):
        obey(game, answer, first=exchanges == 0)
        exchanges += 1
        said = wrapped(next_words(game, world))
        if exchanges == world.fault_at:
            faults.at_exchange(world, said)
        answer = connection.exchange(said)


def shake_hands(connection: Connection, world: World, book: BookWriter) -> Game:
    """The first call: versions, seed and areas."""
    output = message("unity_output", "UnityOutputProto")()
    hello = output.rl_initialization_output
    hello.name, hello.communication_version, hello.package_version = "Reach", world.api_version, world.package_version
    for capability in hello.capabilities.DESCRIPTOR.fields:
        setattr(hello.capabilities, capability.name, True)
    told = connection.exchange(wrapped(output)).unity_input.rl_initialization_input
    book.remark("handshake", seed=told.seed, areas=told.num_areas, version=told.communication_version)
    return Game(world, told.seed, max(told.num_areas, 1), book)


def goes_on(answer: Any, book: BookWriter) -> bool:
    """Whether Python wants to go on."""
    if answer.header.status == GO_ON and answer.unity_input.rl_input.command != QUIT:
        return True
    book.remark("quit", status=answer.header.status)
    say("Python closes.")
    return False


def obey(game: Game, answer: Any, *, first: bool) -> None:
    """Do what an answer says, up to the next tick."""
    told = answer.unity_input.rl_input
    if told.command == RESET:
        game.hear(told.side_channel)
        game.restart()
    else:
        game.listen(told)
    if not first:
        game.advance()


def next_words(game: Game, world: World) -> Any:
    """Tick on until somebody has something to say; a game where nobody ever will hangs."""
    for _ in range(MOST_SILENT_TICKS):
        time.sleep(world.tick_ms / 1000.0)
        if (said := game.speak()) is not None:
            return said
        game.advance()
    return faults.hang()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
