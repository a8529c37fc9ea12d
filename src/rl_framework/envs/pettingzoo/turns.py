"""Games in which the agents move one after the other (PettingZoo's AEC), as games in which all move at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils.conversions import (
    aec_to_parallel,
    turn_based_aec_to_parallel,
    turn_based_aec_to_parallel_wrapper,
)

from rl_framework.errors import InvalidInputError

Game: TypeAlias = ParallelEnv[Any, Any, Any]


def as_parallel(game: Any) -> Game:
    """A game whose agents all move at once, by PettingZoo's own conversions.

    A game that says it `is_parallelizable` advances once all agents have moved. In any other, a step is one agent's
    turn: every agent has its own view all the time, and the actions of those whose turn it is not are ignored.

    Raises:
        InvalidInputError: It is no game of PettingZoo.
    """
    if isinstance(game, ParallelEnv):
        return game
    if not isinstance(game, AECEnv):
        raise InvalidInputError(
            f"Expected a ParallelEnv or an AECEnv of PettingZoo, got {game!r} ({type(game).__name__})."
        )
    if game.metadata.get("is_parallelizable", False):
        return aec_to_parallel(game)
    return turn_based_aec_to_parallel(game)


def layers_of(game: Any) -> Iterator[Any]:
    """The wrappers of a game from the outermost to the innermost, then the game and what it keeps as its `env`."""
    layer = game
    while hasattr(layer, "__dict__"):
        yield layer
        held = vars(layer)
        layer = held.get("env", held.get("aec_env"))


class Turns:
    """Tells whose turn it is.

    Args:
        game: The game, with its wrappers; agents in its `waiting`, if it has that, only look on.
    """

    def __init__(self, game: Game) -> None:
        self._game = game
        conversions = (layer for layer in layers_of(game) if isinstance(layer, turn_based_aec_to_parallel_wrapper))
        self._conversion = next(conversions, None)

    def is_on(self, agent: Any) -> bool:
        """Whether the next action of an agent counts; always, where the agents move at once and none waits."""
        if agent in getattr(self._game, "waiting", ()):
            return False
        return self._conversion is None or bool(self._conversion.aec_env.agent_selection == agent)
