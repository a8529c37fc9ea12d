"""What can go wrong between a client and a service, on purpose: for the loopback servers of `rl_framework.testing`."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One thing that goes wrong with one request.

    Attributes:
        status: Answer with this HTTP status instead of doing what was asked.
        drop: Cut the connection without an answer: "before" doing what was asked, or "after" it.
        retry_after: With a status, the seconds that the client is asked to wait.
        pause: Seconds of silence before the answer.
        trickle: Seconds over which the bytes of the answer are spread.
        message: With a status, what the answer says.
    """

    status: int | None = None
    drop: Literal["before", "after"] | None = None
    retry_after: str | None = None
    pause: float = 0.0
    trickle: float = 0.0
    message: str = "A fault was injected."

    @property
    def headers(self) -> dict[str, str]:
        """With a status, the headers of the answer."""
        return {} if self.retry_after is None else {"Retry-After": self.retry_after}


class Faults(Protocol):
    """Decides what goes wrong."""

    def next(self, step: str) -> Fault | None:
        """The fault for a request of this step of the protocol; None if it is served."""


class NoFaults:
    """Everything works."""

    def next(self, step: str) -> Fault | None:
        """Nothing goes wrong."""
        return None


@dataclass
class ScriptedFaults:
    """Faults for the next requests of some steps, in order; after them, everything works.

    Attributes:
        script: Faults by step; None stands for a request that is served.
    """

    script: Mapping[str, Iterable[Fault | None]]
    _left: dict[str, list[Fault | None]] = field(init=False)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._left = {step: list(faults) for step, faults in self.script.items()}

    def next(self, step: str) -> Fault | None:
        """The first that is left for the step."""
        with self._lock:
            left = self._left.get(step)
            return left.pop(0) if left else None


@dataclass(frozen=True, slots=True)
class SteadyFaults:
    """The same goes wrong with every request of a step, for as long as this is in place.

    Attributes:
        faults: By step.
        others: What goes wrong with requests of all other steps; None if they are served.
    """

    faults: Mapping[str, Fault] = field(default_factory=dict)
    others: Fault | None = None

    def next(self, step: str) -> Fault | None:
        """That of the step."""
        return self.faults.get(step, self.others)


ORDINARY_FAULTS: Sequence[Fault] = (
    Fault(status=429),
    Fault(status=500),
    Fault(status=502),
    Fault(status=503),
    Fault(status=504),
    Fault(drop="before"),
    Fault(drop="after"),
)


@dataclass
class RandomFaults:
    """Some share of all requests fails, each in a way drawn at random.

    Attributes:
        rate: The share, 0 to 1.
        seed: Of the draws.
        kinds: What may go wrong.
        counts: How many requests of each step have failed so far.
    """

    rate: float = 0.3
    seed: int = 0
    kinds: Sequence[Fault] = ORDINARY_FAULTS
    counts: dict[str, int] = field(init=False, default_factory=dict)
    _rng: random.Random = field(init=False)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)

    def next(self, step: str) -> Fault | None:
        """One of the kinds, or none."""
        with self._lock:
            if self._rng.random() >= self.rate:
                return None
            self.counts[step] = self.counts.get(step, 0) + 1
            return self._rng.choice(self.kinds)
