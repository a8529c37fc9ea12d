"""What one of several agents that share a game is given to learn in: its own rows, in step with the others'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rl_framework.agent.turn_taking import TurnTable
from rl_framework.core.policy import BoolArray
from rl_framework.core.trees import Tree
from rl_framework.envs.vector_env import EnvironmentState, EnvSpec, StateLevel, VectorStep

if TYPE_CHECKING:
    from rl_framework.envs.pettingzoo.shared_game import SharedGames


class SharedView:
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
        self._rows = games.views[group]
        self._games = games
        self._group = group
        self._table = table
        self._player = player
        self._seed = seed
        self.observations: Tree = None

    @property
    def spec(self) -> EnvSpec:
        """See `VectorEnv`."""
        return replace(self._rows.spec, n_games=None)

    @property
    def action_masks(self) -> BoolArray | None:
        """See `VectorEnv`."""
        return self._rows.action_masks

    @property
    def agents_per_game(self) -> int:
        """Number of agents that the game has, over all owners."""
        return sum(view.spec.rows_per_game for view in self._games.views.values())

    def reset(self, seed: int | None = None) -> Tree:
        """See `VectorEnv`; all owners do it together, with the seed of the first."""
        seed, self._seed = (seed if self._seed is None else self._seed), None
        self._table.meet(self._player, "reset", _nothing)
        self.observations = self._rows.reset(seed)
        return self.observations

    def reset_to_schedule(self, seeds: Sequence[Sequence[int]]) -> Tree:
        """See `VectorEnv`; all owners do it together, with the same seeds."""
        self._table.meet(self._player, "reset", _nothing)
        self.observations = self._rows.reset_to_schedule(seeds)
        return self.observations

    def send(self, actions: Tree) -> None:
        """See `VectorEnv`."""
        self._games.act(self._group, actions)

    def recv(self) -> VectorStep:
        """See `VectorEnv`; the games are stepped once all owners have come so far."""
        self._table.meet(self._player, "step", self._games.advance)
        step = self._rows.recv()
        self.observations = step.observations
        return step

    def call(self, name: str, *arguments: Any, rows: Sequence[int] | None = None, **options: Any) -> list[Any]:
        """See `VectorEnv`."""
        return self._rows.call(name, *arguments, rows=rows, **options)

    def get_attribute(self, name: str, rows: Sequence[int] | None = None) -> list[Any]:
        """See `VectorEnv`."""
        return self._rows.get_attribute(name, rows)

    def set_attribute(self, name: str, value: Any, rows: Sequence[int] | None = None) -> None:
        """See `VectorEnv`."""
        self._rows.set_attribute(name, value, rows)

    def render(self, row: int = 0) -> npt.NDArray[np.uint8] | None:
        """See `VectorEnv`."""
        return self._rows.render(row)

    def get_state(self) -> EnvironmentState:
        """See `VectorEnv`."""
        return EnvironmentState(level=StateLevel.APPROXIMATE, rows=(None,) * self.spec.n_envs)

    def set_state(self, state: EnvironmentState) -> Tree:  # noqa: ARG002  # There is nothing to put back.
        """See `VectorEnv`; new episodes."""
        return self.reset()

    def close(self) -> None:
        """Leave the games open: they are everybody's."""


def _nothing() -> None:
    """All are there: each resets its own view, the first of them the game."""
