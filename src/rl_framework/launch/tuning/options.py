"""The options of `tune`, once for launch scripts and for the agents of this library."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from rl_framework.launch.command_group import option
from rl_framework.launch.tuning.settings import TuningSettings

SCORE, CHOICE, PLACE = "What counts", "How values are chosen", "Where and how it runs"


def _option(panel: str, *names: str, **described: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, **described)


OPTIONS: Mapping[str, Any] = {
    "output": Annotated[
        Path | None,
        _option(PLACE, "--output", "-o", metavar="FOLDER", help="Folder of the study.", show_default="in runs/"),
    ],
    "n_trials": Annotated[
        int, _option(PLACE, "--n-trials", min=1, metavar="N", help="Trials in the end; those of earlier calls count.")
    ],
    "workers": Annotated[
        int, _option(PLACE, "--workers", min=1, metavar="N", help="Trials side by side, a process each.")
    ],
    "storage": Annotated[
        str | None,
        _option(
            PLACE, "--storage", metavar="URL", help="Database, as SQLAlchemy names it.", show_default="SQLite in FOLDER"
        ),
    ],
    "study_name": Annotated[
        str | None, _option(PLACE, "--study-name", metavar="NAME", help="Name of the study in the database.")
    ],
    "retries": Annotated[
        int,
        _option(PLACE, "--retries", min=0, metavar="N", help="How often a trial whose process died is tried again."),
    ],
    "heartbeat": Annotated[
        int,
        _option(
            PLACE, "--heartbeat", min=1, metavar="N", help="Seconds between signs of life; three without is death."
        ),
    ],
    "time_limit": Annotated[
        float | None, _option(PLACE, "--time-limit", metavar="X", help="Begin no further trial after so many seconds.")
    ],
    "seeds_per_trial": Annotated[
        int, _option(SCORE, "--seeds-per-trial", min=1, metavar="N", help="Runs of each trial, with different seeds.")
    ],
    "worst_weight": Annotated[
        float,
        _option(
            SCORE, "--worst-weight", min=0.0, max=1.0, metavar="X", help="Share of the worst run in a trial's score."
        ),
    ],
    "sampler": Annotated[str, _option(CHOICE, "--sampler", metavar="NAME", help="tpe, random or exhaustive.")],
    "sampler_seed": Annotated[
        int | None,
        _option(CHOICE, "--sampler-seed", metavar="N", help="Makes the choices of one worker repeatable."),
    ],
    "pruner": Annotated[
        str, _option(CHOICE, "--pruner", metavar="NAME", help="What ends poor trials early: median, halving or none.")
    ],
    "startup_trials": Annotated[
        int, _option(CHOICE, "--startup-trials", min=0, metavar="N", help="Complete trials before any is pruned.")
    ],
    "prune_after": Annotated[
        int, _option(CHOICE, "--prune-after", min=0, metavar="N", help="Step before which no run is pruned.")
    ],
}
NAMED_BY_THE_CALLER = ("output", "study_name")


def tuning_options() -> list[inspect.Parameter]:
    """The options, with the defaults of `TuningSettings`."""
    defaults = {each.name: each.default for each in dataclasses.fields(TuningSettings)}
    defaults |= dict.fromkeys(NAMED_BY_THE_CALLER)
    return [option(name, annotation, defaults[name]) for name, annotation in OPTIONS.items()]


def tuning_settings(given: Mapping[str, Any], *, output: Path, study_name: str) -> TuningSettings:
    """The settings that a line says.

    Args:
        given: Values of all options.
        output: Folder of the study unless it is given.
        study_name: Its name unless it is given.

    Raises:
        InvalidInputError: A value does not fit.
    """
    chosen = {"output": given["output"] or output, "study_name": given["study_name"] or study_name}
    return TuningSettings(**{**given, **chosen})
