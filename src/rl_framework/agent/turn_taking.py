"""Several training loops in one game: each runs in a thread of its own, and only one of them at a time.

The threads take turns in a fixed order, so that a run is the same each time although libraries draw from the
generators of the whole process. Where a loop needs what the others do (a step of the game), it waits for them; the
last to come does the work for all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from rl_framework.callbacks.interrupts import InterruptWatch
from rl_framework.errors import RLFrameworkError

_GLANCE_SECONDS = 0.2


class TurnsOver(RLFrameworkError):
    """Leaves the loop of a player that nobody needs any more, or whose fellows have failed."""


class TurnTable:
    """Where players meet.

    Once nobody is busy any more, or one has failed, `meet` raises in all who still take part.

    Args:
        n_players: How many there are.
    """

    def __init__(self, n_players: int) -> None:
        self._changed = threading.Condition()
        self._taking_part = set(range(n_players))
        self._busy = set(range(n_players))
        self._arrived: dict[int, str] = {}
        self._turn = 0
        self._is_over = False

    def wait(self, player: int) -> None:
        """Wait for one's turn.

        Raises:
            TurnsOver: There is nothing to wait for any more.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._turn == player or self._is_over)
            if self._is_over:
                raise TurnsOver("The other agents of the game have ended the run.")

    def meet(self, player: int, verb: str, work: Callable[[], None]) -> None:
        """Wait until all have come for the same; the last one does the work.

        Args:
            player: Who comes, in its turn.
            verb: What for.
            work: What is to be done once all are there.

        Raises:
            TurnsOver: There is nothing to wait for any more.
            RLFrameworkError: Others have come for something else.
        """
        self._arrived[player] = verb
        if len(set(self._arrived.values())) > 1:
            raise RLFrameworkError(
                f"One agent wants to {verb} the game while another wants to "
                f"{next(other for other in self._arrived.values() if other != verb)} it. Agents that reset their "
                "environments in the middle of a run cannot share a game."
            )
        if self._arrived.keys() >= self._taking_part:
            work()
            self._arrived.clear()
        self._pass_on(player)
        self.wait(player)

    def finish(self, player: int) -> bool:
        """Say that one's own work is done, and hear whether others still need one's company."""
        with self._changed:
            self._busy.discard(player)
            self._is_over = self._is_over or not self._busy
            self._changed.notify_all()
            return not self._is_over

    def leave(self, player: int) -> None:
        """Take no part any more."""
        with self._changed:
            self._taking_part.discard(player)
            self._busy.discard(player)
            self._is_over = self._is_over or not self._busy
        self._pass_on(player)

    def break_off(self) -> None:
        """End it for all."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def _pass_on(self, player: int) -> None:
        with self._changed:
            later = [other for other in self._taking_part if other > player]
            self._turn = min(later or self._taking_part, default=player)
            self._changed.notify_all()


class Player(Protocol):
    """One of those who take turns."""

    def work(self) -> Any:
        """Do one's own part; the result is kept."""
        ...

    def keep_company(self) -> None:
        """Take part for the others' sake until `TurnsOver`; return at once if nobody needs it."""
        ...


class PlayerFailed(Exception):
    """One of several players raised.

    Attributes:
        player: Its number.
        error: What it raised.
    """

    def __init__(self, player: int, error: BaseException) -> None:
        super().__init__(f"player {player}: {error}")
        self.player = player
        self.error = error


def take_turns(
    table: TurnTable, players: Sequence[Player], *, on_interrupt: Callable[[], None] = lambda: None
) -> list[Any]:
    """Let players work in turns, each in a thread that ends before this call does.

    Args:
        table: Where they meet.
        players: Those who take turns, by their numbers at the table.
        on_interrupt: Called at the first Ctrl-C; it must only set flags. The second one ends the run at once.

    Returns:
        The results of their work.

    Raises:
        PlayerFailed: One of them raised; its cause says what.
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    evening = _Evening(table, players)
    with InterruptWatch(on_interrupt) as watch:
        evening.play()
    if evening.failures:
        raise evening.failures[0] from evening.failures[0].error
    if watch.pressed:
        raise KeyboardInterrupt
    return evening.results


class _Evening:
    """Players at a table, and what came of it."""

    def __init__(self, table: TurnTable, players: Sequence[Player]) -> None:
        self._table = table
        self._players = players
        self.results: list[Any] = [None] * len(players)
        self.failures: list[PlayerFailed] = []

    def play(self) -> None:
        """Start all threads and wait until they have ended."""
        threads = [
            threading.Thread(target=self._play, args=(number,), daemon=True) for number in range(len(self._players))
        ]
        try:
            for thread in threads:
                thread.start()
            _join(threads)
        finally:
            self._table.break_off()
            _join([thread for thread in threads if thread.ident is not None])

    def _play(self, number: int) -> None:
        try:
            self._table.wait(number)
            self.results[number] = self._players[number].work()
            if self._table.finish(number):
                self._players[number].keep_company()
        except TurnsOver:
            pass
        except BaseException as error:  # noqa: BLE001  (raised by the caller's thread)
            self.failures.append(PlayerFailed(number, error))
            self._table.break_off()
        finally:
            self._table.leave(number)


def _join(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        while thread.is_alive():
            thread.join(_GLANCE_SECONDS)
