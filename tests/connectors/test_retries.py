from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from rl_framework.connectors.retries import (
    RetryPolicy,
    causes_of,
    is_connection_failure,
    is_passing_failure,
    is_passing_status,
    retry,
    status_of,
    wanted_pause,
)
from rl_framework.errors import InvalidInputError


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


class AnswerError(Exception):
    """What a client raises for an answer."""

    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(f"status {status}")
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.response = SimpleNamespace(status_code=status, headers=named)


def failing(times: int, error: Callable[[], Exception] = ConnectionError) -> Callable[[], int]:
    """An action that fails so often, and then gives how often it was called."""
    calls = 0

    def action() -> int:
        nonlocal calls
        calls += 1
        if calls <= times:
            raise error()
        return calls

    return action


def attempt(action: Callable[[], Any], policy: RetryPolicy, clock: Clock, **options: Any) -> Any:
    settings: dict[str, Any] = {"is_transient": is_passing_failure, "rng": random.Random(0), **options}
    return retry(action, policy, sleep=clock.sleep, clock=clock, **settings)


def test_what_works_is_done_once() -> None:
    clock = Clock()
    assert attempt(failing(0), RetryPolicy(), clock) == 1
    assert clock.pauses == []


def test_what_fails_for_a_while_is_tried_again() -> None:
    clock = Clock()
    assert attempt(failing(4), RetryPolicy(attempts=5), clock) == 5
    assert len(clock.pauses) == 4


def test_the_last_error_is_raised_after_the_last_attempt() -> None:
    clock = Clock()
    with pytest.raises(ConnectionError):
        attempt(failing(5), RetryPolicy(attempts=5), clock)
    assert len(clock.pauses) == 4


def test_what_waiting_does_not_mend_is_raised_at_once() -> None:
    clock = Clock()
    with pytest.raises(KeyError):
        attempt(failing(1, KeyError), RetryPolicy(), clock)
    assert clock.pauses == []


def test_ctrl_c_is_not_tried_again() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt(interrupted, RetryPolicy(), Clock(), is_transient=lambda _: True)


def test_pauses_are_drawn_below_a_bound_that_doubles() -> None:
    policy = RetryPolicy(attempts=8, first_delay=1.0, longest_delay=8.0, deadline=1000.0)
    bounds = [1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0]
    seen: list[list[float]] = []
    for seed in range(200):
        clock = Clock()
        attempt(failing(7), policy, clock, rng=random.Random(seed))
        seen.append(clock.pauses)
    for number, bound in enumerate(bounds):
        column = [pauses[number] for pauses in seen]
        assert max(column) <= bound
        assert max(column) > 0.9 * bound
        assert min(column) < 0.1 * bound
        assert sum(column) / len(column) == pytest.approx(bound / 2, rel=0.15)


def test_no_attempt_is_begun_after_the_deadline() -> None:
    clock = Clock()
    policy = RetryPolicy(attempts=1000, first_delay=4.0, longest_delay=4.0, deadline=20.0)
    with pytest.raises(ConnectionError):
        attempt(failing(1000), policy, clock)
    assert clock.now <= 120.0
    assert len(clock.pauses) > 4


def test_the_service_says_how_long_to_wait() -> None:
    clock = Clock()
    attempt(failing(1, lambda: AnswerError(429, Retry_After="17")), RetryPolicy(first_delay=0.1), clock)
    assert clock.pauses == [17.0]


def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    clock = Clock()
    with pytest.raises(AnswerError, match="503"):
        attempt(failing(1, lambda: AnswerError(503, Retry_After="3600")), RetryPolicy(deadline=60.0), clock)
    assert clock.pauses == []


NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 7 ", 7.0),
        ("Fri, 02 Jan 2026 03:05:05 GMT", 60.0),
        ("Fri, 02 Jan 2026 03:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
        ("-5", None),
    ],
    ids=["seconds", "spaces", "date", "past", "text", "empty", "negative"],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert wanted_pause(AnswerError(429, retry_after=value), NOW) == seconds


def test_an_error_without_an_answer_asks_for_nothing() -> None:
    assert wanted_pause(ConnectionError()) is None
    assert wanted_pause(AnswerError(429)) is None


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 520], ids=str)
def test_statuses_that_pass(status: int) -> None:
    assert is_passing_status(status)
    assert is_passing_failure(AnswerError(status))


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 409, 412, 501], ids=str)
def test_statuses_that_do_not_pass(status: int) -> None:
    assert not is_passing_status(status)
    assert not is_passing_failure(AnswerError(status))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (AnswerError(503), 503),
        (type("Urllib", (Exception,), {"code": 404})(), 404),
        (type("Aiohttp", (Exception,), {"status": 429})(), 429),
        (type("Grpc", (Exception,), {"code": lambda self: 5})(), None),
        (ConnectionError(), None),
        (type("Flag", (Exception,), {"status": True})(), None),
    ],
    ids=["response", "code", "status", "method", "none", "boolean"],
)
def test_status_is_found_in_the_errors_of_many_clients(error: Exception, status: int | None) -> None:
    assert status_of(error) == status


def raised_from(error: Exception, cause: Exception) -> Exception:
    try:
        raise error from cause
    except type(error) as raised:
        return raised


def test_what_caused_an_error_decides_as_well() -> None:
    assert is_passing_failure(raised_from(RuntimeError("upload failed"), AnswerError(503)))
    assert not is_passing_failure(raised_from(RuntimeError("upload failed"), AnswerError(403)))
    assert is_connection_failure(raised_from(RuntimeError("upload failed"), TimeoutError()))
    assert not is_connection_failure(RuntimeError("upload failed"))


def test_the_answer_of_a_service_counts_more_than_the_class_of_its_error() -> None:
    class Refused(ConnectionError):
        status_code = 401

    assert not is_passing_failure(Refused())


def test_causes_that_go_in_a_circle_end() -> None:
    first, second = RuntimeError(), RuntimeError()
    first.__cause__, second.__cause__ = second, first
    assert len(list(causes_of(first))) == 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attempts": 0}, "attempts must be at least 1, got 0"),
        ({"first_delay": -1.0}, "first_delay must be 0 seconds or more"),
        ({"longest_delay": float("nan")}, "longest_delay must be 0 seconds or more"),
        ({"deadline": -0.1}, "deadline must be 0 seconds or more"),
    ],
    ids=["attempts", "first", "longest", "deadline"],
)
def test_a_policy_that_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        RetryPolicy(**options)


def test_the_bound_does_not_overflow() -> None:
    assert RetryPolicy(longest_delay=8.0).bound_on_delay(100_000) == 8.0
