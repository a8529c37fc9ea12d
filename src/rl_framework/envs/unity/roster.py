"""Which row each of Unity's agents has: ids come, go, come back, and are replaced by new ones."""

from __future__ import annotations

from collections.abc import Sequence

from rl_framework.errors import EnvironmentFailure

NO_ROW = -1


class Roster:
    """Seats agents in rows in the order of their first decisions.

    An id that comes back gets its former row if that is free, a new one the row that is free the longest.

    Args:
        count: Number of rows.
        ignores_more: Whether an agent that finds no row free is ignored instead of refused. It stays so until its
            episode ends: a row that becomes free meanwhile must not begin with half an episode.

    Attributes:
        first_row: Where the rows begin among those of all players, for errors.
    """

    def __init__(self, count: int, *, ignores_more: bool = False) -> None:
        self.count = count
        self._ignores_more = ignores_more
        self.first_row = 0
        self._seated: dict[int, int] = {}
        self._former: dict[int, int] = {}
        self._ignored: set[int] = set()
        self._free: dict[int, None] = dict.fromkeys(range(count))
        self._names: list[int | None] = [None] * count

    @property
    def ids(self) -> Sequence[int | None]:
        """The agent that each row had last."""
        return self._names

    def seat(self, ids: Sequence[int]) -> list[int]:
        """The rows of agents that ask for a decision, `NO_ROW` for those that are ignored.

        Raises:
            EnvironmentFailure: There are more agents than rows.
        """
        seated = self._seated
        rows = [seated.get(one, NO_ROW) for one in ids]
        if NO_ROW in rows:
            newcomers = [one for one in ids if one not in seated and one not in self._ignored]
            for one in sorted(newcomers, key=lambda one: self._former.get(one) not in self._free):
                self._find_row(one)
            rows = [seated.get(one, NO_ROW) for one in ids]
        return rows

    def release(self, agent: int) -> int:
        """The row of an agent whose episode ended, free from now on; `NO_ROW` if it had none."""
        self._ignored.discard(agent)
        row = self._seated.pop(agent, NO_ROW)
        if row != NO_ROW:
            self._free[row] = None
        return row

    def release_all(self) -> None:
        """Free every row; who comes back still gets its former one."""
        for agent in sorted(self._seated, key=self._seated.__getitem__):
            self.release(agent)
        self._ignored.clear()

    def _find_row(self, agent: int) -> None:
        if not self._free:
            if self._ignores_more:
                self._ignored.add(agent)
                return
            raise EnvironmentFailure(
                f"the agent {agent} asked for a decision while all {self.count} rows of the player have agents: the "
                f"population grew after the environment was opened. Let the game spawn all agents at once, or set "
                f"max_agents={self.count} to let further ones be.",
                row=self.first_row,
            )
        former = self._former.get(agent)
        row = former if former in self._free and former is not None else next(iter(self._free))
        del self._free[row]
        before = self._names[row]
        if before is not None:
            self._former.pop(before, None)
        self._seated[agent], self._former[agent], self._names[row] = row, row, agent
