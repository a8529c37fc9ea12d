"""Several Unity players at work side by side, one thread each: waiting for a game leaves the others free to go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial
from itertools import accumulate
from typing import Any

from rl_framework.envs.unity.player_rows import PlayerRows, StartPlayer
from rl_framework.envs.unity.settings import UnitySettings


class PlayerCrew:
    """Players that are opened together, and closed together if one of them cannot be.

    Args:
        settings: The games.
        start: Starts a player.

    Attributes:
        players: In order of their rows.
        starts: Where the rows of each player begin, and behind them the number of all rows.
    """

    def __init__(self, settings: UnitySettings, start: StartPlayer) -> None:
        self.players: list[PlayerRows] = []
        count, launch = settings.n_players, settings.launch
        self._threads = ThreadPoolExecutor(count, "unity-player") if count > 1 else None
        self._futures: list[Future[Any]] = []
        self._results: list[Callable[[], Any]] = []
        launches = [replace(launch, seed=launch.seed + index, index=index) for index in range(count)]
        try:
            self._begin([partial(self._open, settings, one, start) for one in launches])
            self.finish()
        except BaseException:
            self.close()
            raise
        self.players.sort(key=lambda player: player.index)
        self.starts = [0, *accumulate(player.count for player in self.players)]
        for player, first_row in zip(self.players, self.starts, strict=False):
            player.place(first_row)

    def begin(self, function: Callable[..., Any], *arguments: Sequence[Any]) -> None:
        """Start something with every player; a single one, which has no thread, does it in `finish`."""
        self._begin([partial(function, *call) for call in zip(self.players, *arguments, strict=True)])

    def settle(self) -> None:
        """Wait until nobody is under way; `finish` still gives the results."""
        wait(self._futures)

    def finish(self) -> list[Any]:
        """The results of what was begun, once all are there; of several failures, the first player's goes up."""
        self.settle()
        results, self._results, self._futures = self._results, [], []
        return [result() for result in results]

    def each(self, function: Callable[..., Any], *arguments: Sequence[Any]) -> list[Any]:
        """Do something with every player; what was under way is finished before, and its results are forgotten."""
        self.finish()
        self.begin(function, *arguments)
        return self.finish()

    def close(self) -> None:
        """End the players side by side, when none is under way any more; calling it twice is fine."""
        self.settle()
        threads, self._threads = self._threads, None
        if threads is None:
            for player in self.players:
                player.close()
            return
        endings = [threads.submit(player.close) for player in self.players]
        threads.shutdown()
        for ending in endings:
            ending.result()

    def _open(self, settings: UnitySettings, launch: Any, start: StartPlayer) -> None:
        self.players.append(PlayerRows(settings, launch, start))

    def _begin(self, calls: Sequence[Callable[[], Any]]) -> None:
        if self._threads is None:
            self._results = list(calls)
        else:
            self._futures = [self._threads.submit(call) for call in calls]
            self._results = [future.result for future in self._futures]
