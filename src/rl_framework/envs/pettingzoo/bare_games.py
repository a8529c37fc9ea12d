"""Games themselves, ready to be stepped, where nobody asks that all agents have the same spaces."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from pettingzoo import AECEnv, ParallelEnv

from rl_framework.envs.pettingzoo.games import agents_of
from rl_framework.envs.pettingzoo.names import named_game
from rl_framework.envs.pettingzoo.source import PREFIX, PettingZooGame
from rl_framework.envs.pettingzoo.turns import Game
from rl_framework.envs.pettingzoo.vector_env import check_distinct
from rl_framework.errors import EnvironmentFailure, InvalidInputError, RLFrameworkError


class BareGames:
    """Copies of a game for the length of a block; those that it makes are closed after it.

    Args:
        game: A `ParallelEnv`, an `AECEnv`, a list of them, a function that makes one, a name such as
            `pettingzoo:mpe/simple_tag`, or a `PettingZooGame` around one of these.
        n_games: Copies; None for as many as were given.

    Raises:
        InvalidInputError: It is no game, cannot be copied, does not tell its agents, or stands in the list twice.
        EnvironmentFailure: Making a game raised.
    """

    def __init__(self, game: Any, n_games: int | None = None) -> None:
        if n_games is not None and n_games < 1:
            raise InvalidInputError(f"n_envs must be at least 1, got {n_games}.")
        self._settings = game if isinstance(game, PettingZooGame) else PettingZooGame(game)
        self._owned: list[Any] = []
        try:
            self.games: list[Game] = [self._settings.prepare(one) for one in self._collect(n_games)]
            self.agents = agents_of(self.games[0], self._settings.agents)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the games that were made here; calling it twice is fine."""
        owned, self._owned = self._owned, []
        for game in owned:
            game.close()

    def _collect(self, n_games: int | None) -> list[Any]:
        game = self._settings.game
        if isinstance(game, str):
            return self._make(named_game(game.removeprefix(PREFIX)), n_games or 1)
        if isinstance(game, (ParallelEnv, AECEnv)):
            return self._copies([game], n_games or 1)
        if isinstance(game, Sequence):
            check_distinct(game)
            return self._copies(list(game), n_games or len(game))
        if callable(game):
            return self._make(game, n_games or 1)
        raise InvalidInputError(
            f"Expected a game of PettingZoo (a ParallelEnv or an AECEnv), a list of them, a function that makes one, "
            f"or a name such as 'pettingzoo:mpe/simple_tag'; got {game!r} ({type(game).__name__})."
        )

    def _make(self, make: Callable[[], Any], count: int) -> list[Any]:
        for number in range(count):
            self._owned.append(_made(make, number))
        return list(self._owned)

    def _copies(self, given: list[Any], count: int) -> list[Any]:
        if count < len(given):
            return given[:count]
        try:
            self._owned.extend(copy.deepcopy(given[number % len(given)]) for number in range(count - len(given)))
        except Exception as error:
            raise InvalidInputError(
                f"n_envs={count} was asked for, but the game given cannot be copied ({error}). Pass a function that "
                "makes one, or a list of games."
            ) from error
        return [*given, *self._owned]


def _made(make: Callable[[], Any], number: int) -> Any:
    try:
        return make()
    except RLFrameworkError:
        raise
    except Exception as error:
        raise EnvironmentFailure(f"making it raised {type(error).__name__}: {error}", row=number) from error
