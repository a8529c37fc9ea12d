"""PettingZoo's games as a source of environments: those that a user holds, makes or names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any, TypeAlias

from pettingzoo import AECEnv, ParallelEnv

from rl_framework.envs.pettingzoo.game_env import GameEnv
from rl_framework.envs.pettingzoo.names import named_game
from rl_framework.envs.pettingzoo.padding import PaddedGame
from rl_framework.envs.pettingzoo.turns import Game, as_parallel
from rl_framework.envs.pettingzoo.vector_env import PettingZooVectorEnv, check_distinct
from rl_framework.envs.source import EnvironmentSource, FactorySource, InstanceSource
from rl_framework.envs.vector_env import VectorEnv
from rl_framework.errors import EnvironmentFailure, InvalidInputError, RLFrameworkError

PREFIX = "pettingzoo:"

AnyGame: TypeAlias = ParallelEnv[Any, Any, Any] | AECEnv[Any, Any, Any]


@dataclass(frozen=True)
class PettingZooGame(EnvironmentSource):
    """A game as training environments: what is counted are games, each of which gives a row per agent.

    Args:
        game: A `ParallelEnv` or an `AECEnv`, a list of them (one for each copy that is to run), a function that makes
            one, or a name such as `mpe/simple_spread`. Games that the user made stay the user's to close.
        padding: Widen the spaces of agents that differ to common ones (see `envs.pettingzoo.padding`).
        agents: Names of all agents in the order of their rows, for a game that does not declare its
            `possible_agents` or declares them in another order.

    Raises (when it is opened):
        InvalidInputError: It is nothing that can be a game, or the same game twice.
        UnknownOptionError: There is no game of that name, or it has no such option.
        SpaceError: The agents have different spaces, and padding was not asked for or is not possible.
        MissingExtraError: A package that the game needs is not installed.
    """

    game: AnyGame | Sequence[AnyGame] | Callable[[], AnyGame] | str
    _: KW_ONLY
    padding: bool = False
    agents: Sequence[str] | None = None

    @property
    def count(self) -> int:
        """Number of games."""
        return self._games.count

    @property
    def copyable(self) -> bool:
        """Whether there can be any number of games, all alike."""
        return self._games.copyable

    def prepare(self, game: AnyGame) -> Game:
        """A game with its agents moving at once, padded if that was asked for."""
        return _prepared(game, self.agents, padding=self.padding)

    def _open(self, n_envs: int, vectorization: str, timeout: float) -> VectorEnv:
        try:
            games = self._games.open(n_envs, vectorization, timeout)
        except EnvironmentFailure as error:
            if isinstance(error.__cause__, RLFrameworkError):
                raise error.__cause__ from None
            raise
        try:
            return PettingZooVectorEnv(games, id=self._id)
        except BaseException:
            games.close()
            raise

    @property
    def _id(self) -> str | None:
        return PREFIX + self.game.removeprefix(PREFIX) if isinstance(self.game, str) else None

    @cached_property
    def _games(self) -> EnvironmentSource:
        """Where the games come from, each as one environment."""
        if isinstance(self.game, str):
            return FactorySource([self._factory(named_game(self.game.removeprefix(PREFIX)))])
        if isinstance(self.game, (ParallelEnv, AECEnv)):
            return self._given([self.game])
        if isinstance(self.game, Sequence):
            return self._given(self.game)
        if callable(self.game):
            return FactorySource([self._factory(self.game)])
        raise InvalidInputError(
            f"Expected a ParallelEnv or an AECEnv of PettingZoo, a list of them, a function that makes one, or a name "
            f"such as 'mpe/simple_spread', got {self.game!r} ({type(self.game).__name__})."
        )

    def _given(self, games: Sequence[AnyGame]) -> InstanceSource:
        check_distinct(games)
        return InstanceSource([GameEnv(self.prepare(game), self.agents) for game in games])

    def _factory(self, make: Callable[[], AnyGame]) -> PreparedGame:
        return PreparedGame(make, padding=self.padding, agents=self.agents)


@dataclass(frozen=True)
class PreparedGame:
    """A factory of games that are ready to be stepped.

    Attributes:
        make: Makes the bare game.
        padding: See `PettingZooGame`.
        agents: See `PettingZooGame`.
    """

    make: Callable[[], AnyGame]
    padding: bool
    agents: Sequence[str] | None

    def __call__(self) -> GameEnv:
        """A new game; it is closed again if it cannot be played."""
        game = self.make()
        try:
            return GameEnv(_prepared(game, self.agents, padding=self.padding), self.agents)
        except RLFrameworkError:
            if isinstance(game, (ParallelEnv, AECEnv)):
                game.close()
            raise


def named_source(text: str) -> PettingZooGame:
    """A source over a game by name, without the prefix; see `names.named_game`.

    Raises:
        MissingExtraError: The package of the game is not installed.
        UnknownOptionError: There is no game of that name.
        InvalidInputError: The name is not of the form `family/game`.
    """
    named_game(text)
    return PettingZooGame(text)


def parallel_env_source(env: ParallelEnv[Any, Any, Any]) -> PettingZooGame:
    """A source over a game that the user made, whose agents move at once; it stays the user's to close."""
    return PettingZooGame(env)


def aec_env_source(env: AECEnv[Any, Any, Any]) -> PettingZooGame:
    """A source over a game that the user made, whose agents take turns; it stays the user's to close."""
    return PettingZooGame(env)


def _prepared(game: AnyGame, agents: Sequence[str] | None, *, padding: bool) -> Game:
    parallel = as_parallel(game)
    return PaddedGame(parallel, agents) if padding else parallel
