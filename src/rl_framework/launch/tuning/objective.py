"""One trial: choose, run once per seed, prune, and give the score."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_framework.errors import InvalidInputError
from rl_framework.launch.tuning.experiment import Experiment, TrialRun, combined_score
from rl_framework.launch.tuning.optuna_study import ERROR, OWNER
from rl_framework.launch.tuning.rungs import comparison_step
from rl_framework.launch.tuning.settings import TuningSettings

if TYPE_CHECKING:
    import optuna

MOST_CHARACTERS = 2000
TRIALS = "trials"


@dataclass(frozen=True, slots=True)
class Objective:
    """What a study maximises or minimises.

    Attributes:
        experiment: What is tuned.
        settings: How.
        on_start: Is told the number of each trial as it begins.
    """

    experiment: Experiment
    settings: TuningSettings
    on_start: Callable[[int], None]

    def __call__(self, trial: optuna.Trial) -> float:
        """Conduct a trial; an error of one is written down with it."""
        import optuna

        trial.set_user_attr(OWNER, trial.number)
        self.on_start(trial.number)
        try:
            return self._score(trial)
        except optuna.TrialPruned:
            raise
        except Exception as error:
            trial.set_user_attr(ERROR, _in_words(error))
            raise

    def _score(self, trial: optuna.Trial) -> float:
        space = self.experiment.search_space()
        chosen = {name: each.suggest(trial, name) for name, each in space.items()}
        scores = [self._run(trial, chosen, index) for index in range(self.settings.seeds_per_trial)]
        return combined_score(scores, self.settings.worst_weight, self.experiment.direction)

    def _run(self, trial: optuna.Trial, chosen: dict[str, Any], index: int) -> float:
        run = TrialRun(
            number=trial.number,
            index=index,
            folder=run_folder(self.settings.output, trial.number, index),
            listener=PruningListener(trial, index, self.settings.prune_after),
        )
        score = self.experiment.execute(chosen, run)
        if math.isnan(score):
            raise InvalidInputError(f"The score of run {index} of trial {trial.number} is NaN.")
        return score


@dataclass(slots=True)
class PruningListener:
    """Tells a study how a run is doing, at steps where others can be compared with it.

    Attributes:
        trial: Of Optuna.
        index: Which of the trial's runs it is.
        prune_after: Step before which nothing is told.
    """

    trial: optuna.Trial
    index: int
    prune_after: int
    _latest: int = field(default=-1, init=False)

    def __call__(self, step: int, value: float) -> None:
        """Report a value.

        Raises:
            TrialPruned: The study gives the run no prospects.
        """
        import optuna

        place = comparison_step(step, self.index)
        if step < self.prune_after or place <= self._latest or not math.isfinite(value):
            return
        self._latest = place
        self.trial.report(value, place)
        if self.trial.should_prune():
            raise optuna.TrialPruned(f"at step {step} of run {self.index}")


def run_folder(output: Path, number: int, index: int) -> Path:
    """Where a run of a trial goes."""
    return output / TRIALS / f"{number:05d}" / f"seed_{index}"


def _in_words(error: Exception) -> str:
    """The error and where it came from, short enough for every database."""
    return "".join(traceback.format_exception(error))[-MOST_CHARACTERS:]
