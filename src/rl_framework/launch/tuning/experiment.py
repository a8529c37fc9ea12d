"""What is tuned, as a study sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rl_framework.launch.current_run import Listener
from rl_framework.launch.script import Direction
from rl_framework.launch.search_space import SearchSpace


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialRun:
    """One run of a trial.

    Attributes:
        number: The trial's number.
        index: Which of its runs it is, from 0; to be added to the seed.
        folder: Where it goes.
        listener: Hears of the primary statistic, and may end the run by an exception.
    """

    number: int
    index: int
    folder: Path
    listener: Listener


class Experiment(Protocol):
    """Something with hyper-parameters and a score. A worker process makes the same one from `description()`."""

    @property
    def direction(self) -> Direction:
        """`maximize` or `minimize`."""
        ...

    def search_space(self) -> Mapping[str, SearchSpace]:
        """What may be chosen, by name."""
        ...

    def description(self) -> dict[str, Any]:
        """Everything that the scores depend on beside what is chosen, as plain values."""
        ...

    def execute(self, chosen: Mapping[str, Any], run: TrialRun) -> float:
        """Train with the chosen values, and give the score."""
        ...

    def best_tree(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """The whole configuration with the chosen values, as a file holds it."""
        ...

    def how_to_train(self, best_file: Path) -> str:
        """The command line that trains with that file."""
        ...

    def worker_command(self) -> Sequence[str]:
        """The program and the words that start a worker of this experiment."""
        ...


def combined_score(scores: Sequence[float], worst_weight: float, direction: Direction) -> float:
    """One number for several runs: a share of the worst and the rest of the mean, so that luck counts for less."""
    worst = min(scores) if direction == "maximize" else max(scores)
    return worst_weight * worst + (1.0 - worst_weight) * sum(scores) / len(scores)
