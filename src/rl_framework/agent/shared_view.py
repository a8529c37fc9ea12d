"""What one of several agents that share a game is given to learn in: its own rows, in step with the others'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rl_framework.agent.turn_taking import TurnTable
from rl_framework.core.trees import Tree
from rl_framework.envs.borrowed import ForwardingVectorEnv
from rl_framework.envs.vector_env import EnvironmentState, EnvSpec, StateLevel, VectorStep

if TYPE_CHECKING:
    from rl_framework.envs.pettingzoo.shared_game import SharedGames


class SharedView(ForwardingVectorEnv):
    """The rows of one group of a shared game; its owner waits at a table where the others' actions are needed.

    Where the game is cannot be captured for one of several owners, so a resumed run starts new episodes.

    Args:
        games: The games.
        group: Whose rows.
        table: Where the owners meet.
        player: The owner's number there.
        seed: Of the first reset, whatever the owner asks for; None leaves it to the owners.
    """

    def __init__(
        self, games: SharedGames, group: str, table: TurnTable, player: int, *, seed: int | None = None
    ) -> None:
        super().__init__(games.views[group])
        self._games = games
        self._group = group
        self._table = table
        self._player = player
        self._seed = seed
        self.observations: Tree = None

    @property
    def spec(self) -> EnvSpec:
        """See `VectorEnv`."""
        return replace(self.lender.spec, n_games=None)

    @property
    def agents_per_game(self) -> int:
        """Number of agents that the game has, over all owners."""
        return sum(view.spec.rows_per_game for view in self._games.views.values())

    def reset(self, seed: int | None = None) -> Tree:
        """See `VectorEnv`; all owners do it together, with the seed of the first."""
        seed, self._seed = (seed if self._seed is None else self._seed), None
        self._table.meet(self._player, "reset", _nothing)
        self.observations = self.lender.reset(seed)
        return self.observations

    def reset_to_schedule(self, seeds: Sequence[Sequence[int]]) -> Tree:
        """See `VectorEnv`; all owners do it together, with the same seeds."""
        self._table.meet(self._player, "reset", _nothing)
        self.observations = self.lender.reset_to_schedule(seeds)
        return self.observations

    def send(self, actions: Tree) -> None:
        """See `VectorEnv`."""
        self._games.act(self._group, actions)

    def recv(self) -> VectorStep:
        """See `VectorEnv`; the games are stepped once all owners have come so far."""
        self._table.meet(self._player, "step", self._games.advance)
        step = self.lender.recv()
        self.observations = step.observations
        return step

    def get_state(self) -> EnvironmentState:
        """See `VectorEnv`."""
        return EnvironmentState(level=StateLevel.APPROXIMATE, rows=(None,) * self.spec.n_envs)

    def set_state(self, state: EnvironmentState) -> Tree:  # noqa: ARG002  # There is nothing to put back.
        """See `VectorEnv`; new episodes."""
        return self.reset()


def _nothing() -> None:
    """All are there: each resets its own view, the first of them the game."""
