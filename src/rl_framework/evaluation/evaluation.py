"""The result of an evaluation: what each episode gave, and what that says about the policy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timezone
from functools import cached_property
from itertools import compress
from typing import Any

import numpy as np

from rl_framework.errors import InvalidInputError, UnknownOptionError
from rl_framework.evaluation.statistics import (
    FloatArray,
    IntArray,
    Interval,
    bootstrap_interval,
    interquartile_mean,
    interquartile_means,
)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Evaluation:
    """Episodes that a policy played, in the order in which they were dealt out, whatever the order they ended in.

    It unpacks as `mean, std = evaluation`.

    Attributes:
        returns: Sum of the rewards of each episode. `[N]`
        lengths: Steps of each episode. `[N]`
        seeds: Seed of the reset that opened each episode, None where it could not be given one. N entries
        successes: What each episode said in `info["is_success"]`, None if none of them said so. N entries
        agents: Name of the agent that played each episode in a game of several, None where rows are not agents of a
            game. N entries
        n_envs: How many rows ran side by side.
        deterministic: Whether the policy took its most probable actions.
        seed: The seed from which episodes and policy were seeded.
        duration_seconds: Wall time of playing.
        environment_id: Registered id of the environment, None if there is none.
    """

    returns: FloatArray
    lengths: IntArray
    seeds: tuple[int | None, ...]
    n_envs: int
    deterministic: bool
    seed: int
    duration_seconds: float
    successes: tuple[bool | None, ...] | None = None
    environment_id: str | None = None
    agents: tuple[str | None, ...] | None = None

    def __post_init__(self) -> None:
        """Freeze the arrays and check that they fit each other.

        Raises:
            InvalidInputError: No episodes, fields of different lengths, or a return that is not finite.
        """
        for name, kind in (("returns", np.float64), ("lengths", np.int64)):
            frozen = np.array(getattr(self, name), dtype=kind)
            frozen.setflags(write=False)
            object.__setattr__(self, name, frozen)
        _check_episodes(self)

    def __iter__(self) -> Iterator[float]:
        """Yield mean and standard deviation, so that `mean, std = agent.evaluate(...)` works."""
        yield self.mean
        yield self.std

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    @property
    def std(self) -> float:
        """Population standard deviation of the returns (divided by N), which is what SB3's `evaluate_policy` gives."""
        return float(self.returns.std())

    @property
    def median(self) -> float:
        """Median return."""
        return float(np.median(self.returns))

    @property
    def iqm(self) -> float:
        """Mean of the middle half of the returns: robust against outliers, less wasteful than the median."""
        return interquartile_mean(self.returns)

    @cached_property
    def interval(self) -> Interval:
        """95 % bootstrap interval of the mean return; the same every time."""
        return bootstrap_interval(self.returns)

    @cached_property
    def iqm_interval(self) -> Interval:
        """95 % bootstrap interval of the inter-quartile mean; the same every time."""
        return bootstrap_interval(self.returns, interquartile_means)

    @property
    def success_rate(self) -> float | None:
        """Share of successes among the episodes that said whether they were one, None if none did."""
        said = [success for success in self.successes or () if success is not None]
        return sum(said) / len(said) if said else None

    def by_agent(self) -> dict[str, Evaluation]:
        """The episodes of each agent of a game as a record of its own, by name; empty where rows are not agents."""
        names = dict.fromkeys(name for name in self.agents or () if name is not None)
        return {name: self._chosen([name == other for other in self.agents or ()]) for name in names}

    def _chosen(self, mask: list[bool]) -> Evaluation:
        return replace(
            self,
            returns=self.returns[mask],
            lengths=self.lengths[mask],
            seeds=tuple(compress(self.seeds, mask)),
            successes=None if self.successes is None else tuple(compress(self.successes, mask)),
            agents=None if self.agents is None else tuple(compress(self.agents, mask)),
        )

    def to_dict(self) -> dict[str, Any]:
        """A JSON value from which `from_dict` makes an equal record."""
        record = {field.name: getattr(self, field.name) for field in fields(self)}
        return record | {
            "returns": self.returns.tolist(),
            "lengths": self.lengths.tolist(),
            "seeds": list(self.seeds),
            "successes": None if self.successes is None else list(self.successes),
            "agents": None if self.agents is None else list(self.agents),
        }

    def to_results(self) -> dict[str, Any]:
        """A JSON value under the names that the Hugging Face Hub's `results.json` has, the whole record beside them."""
        return {
            "mean_reward": self.mean,
            "std_reward": self.std,
            "mean_reward_interval": [self.interval.low, self.interval.high],
            "interquartile_mean_reward": self.iqm,
            "is_deterministic": self.deterministic,
            "n_eval_episodes": len(self.returns),
            "eval_datetime": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "seed": self.seed,
            "environment_id": self.environment_id,
            "evaluation": self.to_dict(),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Evaluation:
        """The record that `to_dict` wrote.

        Raises:
            UnknownOptionError: A name that no field has.
            InvalidInputError: A missing field, or values that do not fit.
        """
        known = {field.name for field in fields(cls)}
        for name in record:
            if name not in known:
                raise UnknownOptionError.of("field of an evaluation", name, known)
        try:
            sequences = {name: _as_tuple(record[name]) for name in ("seeds", "successes")}
            sequences["agents"] = _as_tuple(record.get("agents"))
            return cls(**{**record, **sequences})
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInputError(f"Not the record of an evaluation: {error}") from error

    def __str__(self) -> str:
        where = f"{self.environment_id}: " if self.environment_id else ""
        parts = [
            f"{where}mean return {self.mean:.2f} +/- {self.std:.2f} over {len(self.returns)} episodes",
            f"95 % interval of the mean {self.interval}",
            f"inter-quartile mean {self.iqm:.2f} {self.iqm_interval}",
            f"median {self.median:.2f}",
            f"length {self.lengths.mean():.1f} steps",
        ]
        if self.success_rate is not None:
            parts.append(f"success rate {self.success_rate:.1%}")
        return ", ".join(parts)

    def __repr__(self) -> str:
        return f"<Evaluation {self}>"


def _check_episodes(evaluation: Evaluation) -> None:
    count = evaluation.returns.size
    if count == 0 or evaluation.returns.ndim != 1:
        raise InvalidInputError(f"Expected returns [N] of at least one episode, got {evaluation.returns.shape}.")
    for name in ("lengths", "seeds", "successes", "agents"):
        values = getattr(evaluation, name)
        if values is not None and len(values) != count:
            raise InvalidInputError(f"Expected {count} {name}, one per return; got {len(values)}.")
    broken = np.flatnonzero(~np.isfinite(evaluation.returns))
    if broken.size:
        raise InvalidInputError(f"The return of episode {broken[0]} is {evaluation.returns[broken[0]]}, not finite.")


def _as_tuple(values: Any) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values)
