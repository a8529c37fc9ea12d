"""Trying again what a network or a busy service has prevented: bounded, with growing pauses of random length."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from rl_framework.errors import InvalidInputError

Result = TypeVar("Result")

TOO_MANY_REQUESTS = 429
PASSING_STATUSES = frozenset({408, 425, TOO_MANY_REQUESTS})
LASTING_SERVER_STATUSES = frozenset({501, 505, 508, 511})


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """How often and how long something is tried again.

    Attributes:
        attempts: At most this many, the first included.
        first_delay: Seconds that the first pause may last; each further one may last twice as long.
        longest_delay: Seconds that no pause exceeds, unless the service asks for more.
        deadline: Seconds after which no further attempt is begun.
    """

    attempts: int = 5
    first_delay: float = 0.5
    longest_delay: float = 8.0
    deadline: float = 60.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise InvalidInputError(f"attempts must be at least 1, got {self.attempts}.")
        for name in ("first_delay", "longest_delay", "deadline"):
            if not getattr(self, name) >= 0:
                raise InvalidInputError(f"{name} must be 0 seconds or more, got {getattr(self, name)}.")

    def bound_on_delay(self, failures: int) -> float:
        """The seconds that the pause after so many failures may last."""
        return min(self.longest_delay, self.first_delay * 2.0 ** min(failures - 1, 60))


def retry(
    action: Callable[[], Result],
    policy: RetryPolicy,
    *,
    is_transient: Callable[[Exception], bool],
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    rng: random.Random | None = None,
) -> Result:
    """Do something, again if need be.

    A pause lasts between nothing and its bound, uniformly ("full jitter"), so that many clients that failed
    together do not return together. Where the service says how long to wait, it lasts at least that long; if that
    is beyond the deadline, there is no further attempt.

    Args:
        action: What to do; done anew each time.
        policy: How often and how long.
        is_transient: Whether an error may pass by waiting.
        sleep: Waits for some seconds.
        clock: Seconds from any origin, never backwards.
        rng: Where the lengths of the pauses come from.

    Returns:
        What the action gave.

    Raises:
        Exception: The action's last error, or its first that waiting does not mend.

    Source: Brooker, Exponential Backoff And Jitter, AWS Architecture Blog, 2015.
    """
    generator = rng or random.Random()
    end = clock() + policy.deadline
    failures = 0
    while True:
        try:
            return action()
        except Exception as error:
            failures += 1
            if failures >= policy.attempts or not is_transient(error):
                raise
            pause = _pause_after(error, generator.uniform(0.0, policy.bound_on_delay(failures)))
            if clock() + pause > end:
                raise
        sleep(pause)


def _pause_after(error: Exception, jitter: float) -> float:
    return max(jitter, wanted_pause(error) or 0.0)


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an error of any client stands for; None if there was no answer."""
    for holder in (getattr(error, "response", None), error):
        for name in ("status_code", "status", "code"):
            status = getattr(holder, name, None)
            if isinstance(status, int) and not isinstance(status, bool):
                return int(status)
    return None


def is_passing_status(status: int) -> bool:
    """Whether a service that answers so may answer otherwise later: it is overloaded, restarting, or too slow."""
    return status in PASSING_STATUSES or (status >= 500 and status not in LASTING_SERVER_STATUSES)


def is_connection_failure(error: BaseException) -> bool:
    """Whether an error, or what caused it, is a connection that was refused, cut or too slow.

    Only the classes of the standard library are recognised; a client's own are for its connector to name.
    """
    return any(isinstance(part, (ConnectionError, TimeoutError)) for part in causes_of(error))


def is_passing_failure(error: BaseException) -> bool:
    """Whether an error may pass by waiting: 429, 5xx, or a connection that was refused, cut or too slow.

    The answer of a service, of the error or of what caused it, decides before anything else.
    """
    statuses = (status_of(part) for part in causes_of(error))
    status = next((status for status in statuses if status is not None), None)
    return is_passing_status(status) if status is not None else is_connection_failure(error)


def causes_of(error: BaseException, limit: int = 16) -> Iterator[BaseException]:
    """The error, what caused it, what caused that, and so on."""
    part: BaseException | None = error
    for _ in range(limit):
        if part is None:
            return
        yield part
        part = part.__cause__ or (None if part.__suppress_context__ else part.__context__)


def wanted_pause(error: BaseException, now: datetime | None = None) -> float | None:
    """The seconds that a service asks to wait, from the header `Retry-After` of its answer; None if it does not.

    Source: RFC 9110, section 10.2.3: seconds, or a date.
    """
    headers = getattr(getattr(error, "response", None), "headers", None)
    value = _header(headers, "retry-after")
    if value is None:
        return None
    if value.isdecimal():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    aware = date if date.tzinfo else date.replace(tzinfo=timezone.utc)
    return max(0.0, (aware - (now or datetime.now(timezone.utc))).total_seconds())


def _header(headers: Any, name: str) -> str | None:
    """A header whatever its capitals; clients keep them in dictionaries of their own."""
    items = getattr(headers, "items", None)
    if not callable(items):
        return None
    return next((str(value).strip() for key, value in items() if str(key).lower() == name), None)
