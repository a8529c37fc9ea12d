"""How a study is conducted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rl_framework.errors import InvalidInputError, UnknownOptionError

SAMPLERS = ("tpe", "random", "exhaustive")
PRUNERS = ("median", "halving", "none")
DATABASE = "study.db"
BEST = "best.yaml"
AT_LEAST = {
    "n_trials": 1,
    "workers": 1,
    "seeds_per_trial": 1,
    "startup_trials": 0,
    "prune_after": 0,
    "retries": 0,
    "heartbeat": 1,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TuningSettings:
    """How a study is conducted. Every process and machine that takes part is given the same.

    Attributes:
        output: Folder for the trials, the best configuration and, unless `storage` says otherwise, the database.
        n_trials: Trials that the study shall have in the end; those of earlier calls count. Several machines that
            work on it at once may add one more each.
        workers: Trials side by side, each in a process of its own.
        storage: URL of a database that SQLAlchemy knows; None for SQLite in the output folder.
        study_name: Name in the database.
        seeds_per_trial: Runs of each trial, which differ in their seeds.
        worst_weight: Share of the worst run in a trial's score; the mean of all runs has the rest.
        sampler: How values are chosen: `tpe`, `random` or `exhaustive` (every combination of choices).
        sampler_seed: Makes the choices of a single worker repeatable.
        pruner: What ends trials without prospects: `median`, `halving` or `none`.
        startup_trials: Complete trials before any is pruned, and before `tpe` learns from them.
        prune_after: Step before which no run is pruned.
        retries: How often a trial whose process died is tried again.
        heartbeat: Seconds between two signs of life of a trial; after three without one it counts as dead.
        time_limit: Seconds after which no further trial begins, None for no limit.
    """

    output: Path
    n_trials: int = 20
    workers: int = 1
    storage: str | None = None
    study_name: str = "study"
    seeds_per_trial: int = 1
    worst_weight: float = 0.5
    sampler: str = "tpe"
    sampler_seed: int | None = None
    pruner: str = "median"
    startup_trials: int = 5
    prune_after: int = 0
    retries: int = 2
    heartbeat: int = 20
    time_limit: float | None = None

    def __post_init__(self) -> None:
        for name, least in AT_LEAST.items():
            if getattr(self, name) < least:
                raise InvalidInputError(f"{name} is a whole number from {least}; got {getattr(self, name)}.")
        if self.time_limit is not None and not self.time_limit > 0.0:
            raise InvalidInputError(f"time_limit lies above 0, or is None for no limit; got {self.time_limit}.")
        if not 0.0 <= self.worst_weight <= 1.0:
            raise InvalidInputError(f"worst_weight lies between 0 and 1; got {self.worst_weight}.")
        if self.sampler not in SAMPLERS:
            raise UnknownOptionError.of("sampler", self.sampler, SAMPLERS)
        if self.pruner not in PRUNERS:
            raise UnknownOptionError.of("pruner", self.pruner, PRUNERS)

    @property
    def url(self) -> str:
        """Where the study is kept."""
        return self.storage or f"sqlite:///{self.output.absolute() / DATABASE}"

    @property
    def grace_seconds(self) -> int:
        """Seconds without a sign of life after which a trial counts as dead."""
        return 3 * self.heartbeat

    @property
    def best_file(self) -> Path:
        """The best configuration so far."""
        return self.output / BEST

    def to_json(self) -> dict[str, Any]:
        """What `from_json` makes it from again, in another process."""
        return {**dataclasses.asdict(self), "output": str(self.output.absolute())}

    @classmethod
    def from_json(cls, node: Mapping[str, Any]) -> TuningSettings:
        """Take back what `to_json` gave."""
        return cls(**{**node, "output": Path(node["output"])})
