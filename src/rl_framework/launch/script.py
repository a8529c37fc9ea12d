"""From a function and a configuration to a command line."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from rl_framework.errors import InvalidInputError, UnknownOptionError
from rl_framework.launch.config_fields import ConfigField, config_fields
from rl_framework.launch.current_run import MEAN_RETURN, Listener, Run
from rl_framework.launch.run_directory import RunDirectory

C = TypeVar("C")
Direction: TypeAlias = Literal["maximize", "minimize"]
DIRECTIONS = ("maximize", "minimize")


@dataclass(frozen=True, kw_only=True, slots=True)
class Script(Generic[C]):
    """A function that trains, and what it can be told.

    Attributes:
        train: The function of a configuration and a `Run`. What it returns is the score; None for the latest value of
            the primary statistic.
        config_class: The frozen dataclass of its configuration.
        primary: Name of the statistic that says how good a run is.
        direction: Whether a high or a low score is good.
        seed_field: Name of the field with the seed, which differs between the runs of one trial.
    """

    train: Callable[[C, Run], float | None]
    config_class: type[C]
    primary: str = MEAN_RETURN
    direction: Direction = "maximize"
    seed_field: str = "seed"

    def __post_init__(self) -> None:
        if not callable(self.train):
            raise InvalidInputError(f"train must be a function of a configuration and a run; got {self.train!r}.")
        if self.direction not in DIRECTIONS:
            raise UnknownOptionError.of("direction", self.direction, DIRECTIONS)
        config_fields(self.config_class)

    @property
    def fields(self) -> tuple[ConfigField, ...]:
        """The fields of the configuration and of those in it."""
        return config_fields(self.config_class)


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """How a run begins.

    Attributes:
        directory: Where it goes.
        resumes: Whether it goes on with what is there, instead of beginning afresh.
        overwrite: Whether a fresh run may replace another one.
        trial: Number of the trial that it belongs to, None outside of a study.
        listener: Hears of the primary statistic.
    """

    directory: RunDirectory
    resumes: bool = False
    overwrite: bool = False
    trial: int | None = None
    listener: Listener | None = None


def run(
    train: Callable[[C, Run], float | None],
    config_class: type[C],
    *,
    primary: str = MEAN_RETURN,
    direction: Direction = "maximize",
    seed_field: str = "seed",
    arguments: Sequence[str] | None = None,
) -> None:
    """Be the command line of a launch script, with `train`, `tune` and `sample-config`; the process ends with it.

    Args:
        train: The function of a configuration and a `Run`. What it returns is the score; None for the latest value of
            the primary statistic.
        config_class: The frozen dataclass of its configuration; fields made by `tunable` are what a study searches.
        primary: Name of the statistic that says how good a run is. `mean_return` is also what agents report.
        direction: Whether a high or a low score is good.
        seed_field: Name of the field with the seed, which differs between the runs of one trial.
        arguments: The words on the line; those of this process unless given.

    Raises:
        InvalidInputError: The configuration is not a frozen dataclass of types that files can hold.
        SystemExit: Always. 0: done; 1: failed; 2: the input does not fit; 130: Ctrl-C.
    """
    from rl_framework.launch.application import script_application

    script = Script(train=train, config_class=config_class, primary=primary, direction=direction, seed_field=seed_field)
    script_application(script)(args=None if arguments is None else list(arguments))


def execute(script: Script[C], config: C, start: Start) -> float | None:
    """Run the function in a folder of its own, and write everything down.

    Returns:
        The score, None if there is none.

    Raises:
        InvalidInputError: The folder is in use, or the function returned something that is no number.
        Exception: Whatever the function raised. The folder can be resumed then.
    """
    from rl_framework.launch.configuration import config_tree

    with start.directory.claimed():
        current = open_run(start, config_tree(config), script.primary)
        with current:
            score = score_of(script.train(config, current), current)
        start.directory.write_result({"score": _as_json(score), "primary": script.primary})
    return score


def open_run(start: Start, tree: Mapping[str, Any], primary: str) -> Run:
    """The run in a claimed folder, once everything that precedes it is written down.

    Raises:
        InvalidInputError: The folder holds another run.
    """
    from rl_framework.launch.versions import versions

    directory = start.directory
    if not start.resumes:
        if start.overwrite:
            directory.clear()
        directory.check_free()
        directory.write_config(tree)
    directory.note_start(versions(script_path()))
    resumed = directory.latest_checkpoint() if start.resumes else None
    current = Run(directory, primary=primary, resumed=resumed, trial=start.trial, listener=start.listener)
    current.log_parameters(tree)
    return current


def script_path() -> Path | None:
    """The file of the script that this process runs; None in a session without one."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return None if file is None else Path(file).resolve()


def score_of(returned: Any, current: Run) -> float | None:
    """The score of a run: what the function returned, else the latest primary statistic.

    Raises:
        InvalidInputError: The function returned something else than a number or None.
    """
    if returned is None:
        return current.score
    try:
        return float(returned)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"train returns a number or None; it returned {returned!r}.") from error


def _as_json(score: float | None) -> float | str | None:
    return score if score is None or math.isfinite(score) else str(score)
