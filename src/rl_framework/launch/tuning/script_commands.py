"""The commands of a launch script that tune it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from rl_framework.errors import InvalidInputError
from rl_framework.launch.command_group import command_with
from rl_framework.launch.config_files import SUFFIXES, read_mapping
from rl_framework.launch.configuration import tree_of_texts
from rl_framework.launch.script import Script, script_path
from rl_framework.launch.tuning.options import tuning_options, tuning_settings
from rl_framework.launch.value_types import merged

WORKER = "tune-worker"
Fix = Annotated[
    list[str] | None,
    typer.Option("--fix", metavar="FILE|NAME=X", help="What is not tuned: a configuration or one value; repeatable."),
]


def add_tuning(app: typer.Typer, script: Script[Any]) -> None:
    """Add `tune`, and the command that its workers run."""
    app.command("tune")(command_with(_tune, tuning_options(), script))
    app.command(WORKER, hidden=True)(command_with(_tune_worker, (), script))


def fixed_tree(script: Script[Any], given: Sequence[str]) -> dict[str, Any]:
    """Values that are not tuned, out of files and `name=value` texts; the last one counts.

    Raises:
        InvalidInputError: A text is neither, or says a value that does not fit.
    """
    return merged(*(_layer(script, each) for each in given))


def _tune(script: Script[Any], fix: Fix = None, **given: Any) -> None:
    """Search for the best values of the tunable fields.

    Trials run side by side in processes of their own; one that dies is tried again. The
    same line goes on with a study that was interrupted. The best configuration is written
    to best.yaml, which train takes as its --config.
    """
    from rl_framework.launch.tuning.script_experiment import ScriptExperiment, own_command
    from rl_framework.launch.tuning.tune import tune

    name = _script_name()
    settings = tuning_settings(given, output=Path("runs", f"{name}-tuning"), study_name=name)
    experiment = ScriptExperiment(script, fixed_tree(script, fix or ()), worker_command=[*own_command(), WORKER])
    experiment.check_seeds(settings.seeds_per_trial)
    tune(experiment, settings, typer.echo)


def _tune_worker(script: Script[Any]) -> None:
    """Conduct trials; `tune` starts this."""
    from rl_framework.launch.tuning.trial_worker import serve_trials

    serve_trials(partial(_experiment, script))


def _experiment(script: Script[Any], description: Mapping[str, Any]) -> Any:
    from rl_framework.launch.tuning.script_experiment import experiment_of

    return experiment_of(script, description)


def _layer(script: Script[Any], given: str) -> dict[str, Any]:
    name, equals, text = given.partition("=")
    if equals and name.strip():
        return tree_of_texts(script.config_class, {name.strip(): text})
    if Path(given).suffix.lower() not in SUFFIXES:
        raise InvalidInputError(f"Expected --fix with a file of values or name=value; got {given!r}.")
    return read_mapping(Path(given), script.config_class)


def _script_name() -> str:
    path = script_path()
    return "study" if path is None else path.stem
