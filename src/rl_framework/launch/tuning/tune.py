"""A study from its beginning to its best configuration."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from rl_framework.errors import InvalidInputError, RLFrameworkError
from rl_framework.launch.config_files import dump_yaml, write_text
from rl_framework.launch.run_directory import RunDirectory
from rl_framework.launch.tuning.experiment import Experiment
from rl_framework.launch.tuning.objective import TRIALS
from rl_framework.launch.tuning.optuna_study import (
    ERROR,
    best_values,
    count_combinations,
    finished_trials,
    open_study,
    study_errors,
    without_password,
)
from rl_framework.launch.tuning.settings import TuningSettings
from rl_framework.launch.tuning.supervisor import Say, Supervisor

if TYPE_CHECKING:
    import optuna

MEMORY_ONLY = ("sqlite://", "sqlite:///", "sqlite:///:memory:")


def tune(experiment: Experiment, settings: TuningSettings, say: Say) -> None:
    """Search for the best hyper-parameters, and write down the best configuration.

    Args:
        experiment: What is tuned.
        settings: How. A study that was begun before goes on.
        say: Takes a line for people.

    Raises:
        InvalidInputError: There is nothing to choose, the output does not fit, or the study is of something else.
        ConnectorError: The database fails.
        RLFrameworkError: No trial was complete, or workers cannot be started.
        KeyboardInterrupt: Ctrl-C; the same call goes on.
    """
    _check(experiment, settings)
    if settings.sampler == "exhaustive":
        settings = replace(settings, n_trials=min(settings.n_trials, count_combinations(experiment.search_space())))
    had_trials = (settings.output / TRIALS).exists()
    # This process chooses nothing, and an exhaustive sampler would raise here where the last combination's worker dies.
    with open_study(experiment, replace(settings, sampler="random")) as study:
        if had_trials and not study.get_trials(deepcopy=False):
            raise InvalidInputError(f"{settings.output} holds the trials of another study; choose another --output.")
        say(f"The study {settings.study_name!r} is in {without_password(settings.url)}.")
        _conduct(study, experiment, settings, say)
        _summarise(study, experiment, settings, say)


def write_best(study: optuna.Study, experiment: Experiment, settings: TuningSettings) -> bool:
    """Write the best configuration so far.

    Returns:
        Whether there is one.

    Raises:
        ArchiveError: It cannot be written.
    """
    found = best_values(study, experiment.search_space())
    if found is None:
        return False
    trial, chosen = found
    heading = f"# Trial {trial.number} of the study {settings.study_name}, with a score of {trial.value}.\n"
    write_text(settings.best_file, heading + dump_yaml(experiment.best_tree(chosen)))
    return True


def _conduct(study: optuna.Study, experiment: Experiment, settings: TuningSettings, say: Say) -> None:
    before = len(finished_trials(study))
    if before:
        say(f"It has {before} of {settings.n_trials} trials already.")
    try:
        supervisor = Supervisor(
            study, experiment, settings, say=say, on_complete=partial(write_best, study, experiment, settings)
        )
        with study_errors(settings):
            supervisor.conduct()
    except KeyboardInterrupt:
        say("Interrupted; the same line goes on with the study.")
        raise


def _check(experiment: Experiment, settings: TuningSettings) -> None:
    if not experiment.search_space():
        raise InvalidInputError(
            "There is nothing to tune: make fields of the configuration with tunable(...), and do not fix all of them."
        )
    if RunDirectory(settings.output).config.exists():
        raise InvalidInputError(f"{settings.output} holds a run already; choose another --output for the study.")
    if settings.url in MEMORY_ONLY:
        raise InvalidInputError(
            f"The trials of a study run in processes of their own, which do not see the database {settings.url}; leave "
            "--storage out, or give a file or a server."
        )
    try:
        settings.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError(
            f"The output of a study is a folder; {settings.output} cannot be one: {error}"
        ) from error


def _summarise(study: optuna.Study, experiment: Experiment, settings: TuningSettings, say: Say) -> None:
    trials = finished_trials(study)
    counts = {state: sum(each.state.name == state for each in trials) for state in ("COMPLETE", "PRUNED", "FAIL")}
    say(f"{counts['COMPLETE']} trials were complete, {counts['PRUNED']} pruned, {counts['FAIL']} failed.")
    if not write_best(study, experiment, settings):
        errors = [str(each.user_attrs[ERROR]).strip() for each in trials if ERROR in each.user_attrs]
        raise RLFrameworkError(
            f"No trial was complete. {'The first error was: ' + errors[0] if errors else ''}".strip()
        )
    found = best_values(study, experiment.search_space())
    if found is not None:
        trial, chosen = found
        values = ", ".join(f"{name}={value}" for name, value in chosen.items())
        say(f"The best is trial {trial.number} with {trial.value:.6g}: {values}")
        say(f"Train with it: {experiment.how_to_train(settings.best_file)}")
