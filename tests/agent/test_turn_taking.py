from __future__ import annotations

import threading
from typing import Any

import pytest

from rl_framework.agent.turn_taking import PlayerFailed, TurnsOver, TurnTable, take_turns
from rl_framework.errors import RLFrameworkError

Log = list[str]


class Counter:
    """Meets the others some times, then keeps them company; writes down what it does."""

    def __init__(self, table: TurnTable, number: int, rounds: int, log: Log, fails_at: int | None = None) -> None:
        self.table, self.number, self.rounds, self.log, self.fails_at = table, number, rounds, log, fails_at
        self.is_ended = False

    def work(self) -> int:
        for turn in range(self.rounds):
            self.log.append(f"{self.number} acts")
            if turn == self.fails_at:
                raise ZeroDivisionError("deliberate")
            self._meet()
        return self.rounds

    def keep_company(self) -> None:
        try:
            while True:
                self.log.append(f"{self.number} helps")
                self._meet()
        except TurnsOver:
            self.is_ended = True
            raise

    def _meet(self) -> None:
        self.table.meet(self.number, "step", lambda: self.log.append("step"))


def play(rounds: tuple[int, ...], **options: Any) -> tuple[list[Any], Log, list[Counter]]:
    log: Log = []
    table = TurnTable(len(rounds))
    players = [Counter(table, number, count, log, **options) for number, count in enumerate(rounds)]
    return take_turns(table, players), log, players


def test_players_act_in_a_fixed_order_and_the_last_to_come_steps_the_game() -> None:
    results, log, _ = play((2, 2, 2))
    assert log[:8] == ["0 acts", "1 acts", "2 acts", "step"] * 2
    assert log.count("step") == 2
    assert results == [2, 2, 2]


def test_one_that_is_done_keeps_the_others_company() -> None:
    results, log, players = play((1, 3))
    assert log.count("step") == 3
    expected = ["0 acts", "1 acts", "0 helps", "1 acts", "0 helps", "1 acts"]
    assert [line for line in log if line != "step"] == [*expected, "0 helps"]
    assert results == [1, 3]
    assert players[0].is_ended


def test_no_thread_outlives_the_call() -> None:
    before = threading.active_count()
    play((3, 1, 2))
    assert threading.active_count() == before


def test_an_error_of_one_ends_all_and_is_raised() -> None:
    table, log = TurnTable(2), Log()
    players = [Counter(table, 0, 100, log), Counter(table, 1, 100, log, fails_at=2)]
    before = threading.active_count()
    with pytest.raises(PlayerFailed, match="deliberate") as caught:
        take_turns(table, players)
    assert caught.value.player == 1
    assert isinstance(caught.value.error, ZeroDivisionError)
    assert log.count("step") == 2
    assert threading.active_count() == before


def test_players_that_want_different_things_are_told_apart() -> None:
    table = TurnTable(2)

    class Wanting:
        def __init__(self, number: int, verb: str) -> None:
            self.number, self.verb = number, verb

        def work(self) -> None:
            table.meet(self.number, self.verb, _nothing)

        def keep_company(self) -> None:
            """Nothing."""

    with pytest.raises(PlayerFailed, match=r"reset the game while another wants to step|step .* reset") as caught:
        take_turns(table, [Wanting(0, "step"), Wanting(1, "reset")])
    assert isinstance(caught.value.error, RLFrameworkError)


def _nothing() -> None:
    """All have come."""
