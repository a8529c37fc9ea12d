"""One policy against another: means, inter-quartile means, their difference, and who wins how often."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from rl_framework.errors import InvalidInputError
from rl_framework.evaluation.evaluation import Evaluation
from rl_framework.evaluation.statistics import (
    FloatArray,
    Interval,
    Statistic,
    bootstrap_interval,
    difference_interval,
    interquartile_means,
    means,
    probability_of_improvement,
    probability_of_improvement_interval,
)

Returns: TypeAlias = Evaluation | Sequence[float] | npt.NDArray[np.float64]
Row: TypeAlias = tuple[str, str, str]

HEADER: Row = ("", "value", "95 % interval")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % bootstrap interval."""

    value: float
    interval: Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What two samples of episode returns say about each other. `str()` is an aligned table.

    Attributes:
        names: What the two are called.
        episodes: How many episodes each has.
        means: Mean return of each.
        iqms: Inter-quartile mean of each.
        difference: Mean of the first less mean of the second.
        improvement: Probability that an episode of the first gives more than one of the second, ties one half.
    """

    names: tuple[str, str]
    episodes: tuple[int, int]
    means: tuple[Estimate, Estimate]
    iqms: tuple[Estimate, Estimate]
    difference: Estimate
    improvement: Estimate

    def rows(self) -> list[Row]:
        """The table's lines: what, value, interval."""
        a, b = self.names
        lines = [
            (f"mean return of {name} ({count} episodes)", mean)
            for name, count, mean in zip(self.names, self.episodes, self.means, strict=True)
        ]
        lines += [(f"inter-quartile mean of {name}", iqm) for name, iqm in zip(self.names, self.iqms, strict=True)]
        lines += [(f"difference of means, {a} - {b}", self.difference), (f"P({a} > {b})", self.improvement)]
        return [(what, f"{line.value:.2f}", str(line.interval)) for what, line in lines]

    def __str__(self) -> str:
        rows = [HEADER, *self.rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        return "\n".join(
            f"{what:<{widths[0]}}  {value:>{widths[1]}}  {interval:>{widths[2]}}".rstrip()
            for what, value, interval in rows
        )

    def print_table(self) -> None:
        """Print the table: with lines and weight on a terminal, as plain text elsewhere."""
        if sys.stdout.isatty():
            _print_rich(self)
        else:
            sys.stdout.write(f"{self}\n")


def compare(a: Returns, b: Returns, *, names: tuple[str, str] = ("a", "b"), seed: int = 0) -> Comparison:
    """Compare two policies by the returns of their episodes.

    Args:
        a: The first evaluation, or its returns. `[N]`
        b: The second; the number of episodes may differ. `[M]`
        names: What to call them.
        seed: Seed of the resampling behind the intervals.

    Raises:
        InvalidInputError: Not two names, no returns, or a return that is not finite.
    """
    if len(names) != 2:
        raise InvalidInputError(f"Expected two names, got {names!r}.")
    ours, theirs = _returns(a), _returns(b)
    return Comparison(
        names=(names[0], names[1]),
        episodes=(len(ours), len(theirs)),
        means=(_estimate(ours, means, seed), _estimate(theirs, means, seed)),
        iqms=(_estimate(ours, interquartile_means, seed), _estimate(theirs, interquartile_means, seed)),
        difference=Estimate(float(means(ours) - means(theirs)), difference_interval(ours, theirs, seed=seed)),
        improvement=Estimate(
            probability_of_improvement(ours, theirs), probability_of_improvement_interval(ours, theirs, seed=seed)
        ),
    )


def _returns(given: Returns) -> FloatArray:
    returns = np.asarray(given.returns if isinstance(given, Evaluation) else given, dtype=np.float64)
    if returns.ndim != 1:
        raise InvalidInputError(f"Expected an evaluation or returns [N], got an array of shape {returns.shape}.")
    return returns


def _estimate(returns: FloatArray, statistic: Statistic, seed: int) -> Estimate:
    interval = bootstrap_interval(returns, statistic, seed=seed)
    return Estimate(float(statistic(returns)), interval)


def _print_rich(comparison: Comparison) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=" vs. ".join(comparison.names))
    for heading, side in zip(HEADER, ("left", "right", "right"), strict=True):
        table.add_column(heading, justify="right" if side == "right" else "left")
    for row in comparison.rows():
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
