"""The command line of a launch script."""

from __future__ import annotations

import dataclasses
import inspect
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import typer

from rl_framework.errors import InvalidInputError
from rl_framework.launch.command_group import Commands, command_with, option
from rl_framework.launch.config_fields import ConfigField
from rl_framework.launch.config_files import read_mapping, sample_yaml, write_text
from rl_framework.launch.configuration import build_config, tree_of_texts
from rl_framework.launch.run_directory import RunDirectory
from rl_framework.launch.script import Script, Start, execute, script_path
from rl_framework.launch.tuning.script_commands import add_tuning
from rl_framework.launch.value_types import to_plain, type_name

WORDS = ("config", "output", "overwrite", "resume", "help", "debug")

ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", metavar="FILE", help="Configuration, as sample-config writes one.")
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Folder of the run.", show_default="in runs/")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run in that folder.")]
Resume = Annotated[
    Path | None, typer.Option("--resume", metavar="FOLDER", help="Go on with an interrupted run; nothing else is said.")
]


def script_application(script: Script[Any]) -> typer.Typer:
    """The commands of a script.

    Raises:
        InvalidInputError: A field has the name of an option.
    """
    app = typer.Typer(
        cls=Commands,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help=(inspect.getdoc(script.config_class) or "").partition("\n\n")[0],
    )
    app.callback()(_debug)
    app.command("train")(command_with(_train, map(_option, script.fields), script))
    add_tuning(app, script)
    app.command("sample-config")(command_with(_sample_config, (), script))
    return app


def default_output() -> Path:
    """A folder below `runs` that is named after the script and the time, so finely that runs begun together differ."""
    script = script_path()
    moment = datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S-%f")
    return Path("runs", f"{'run' if script is None else script.stem}-{moment}")


def _debug(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False) -> None:
    """Read by the group, which shows errors."""


def _train(
    script: Script[Any],
    *,
    config: ConfigFile = None,
    output: Output = None,
    overwrite: Overwrite = False,
    resume: Resume = None,
    **given: Any,
) -> None:
    """Train once; what the line says wins over the file, and the file over the defaults.

    Everything goes into one folder. A run that was interrupted goes on by --resume.
    """
    names = {_argument(each): each.name for each in script.fields}
    texts = {names[argument]: str(text) for argument, text in given.items() if text is not None}
    if resume is not None:
        if texts or config is not None or output is not None or overwrite:
            raise InvalidInputError("--resume goes on with the configuration in the folder; leave out everything else.")
        _go_on(script, RunDirectory(resume))
        return
    file = {} if config is None else read_mapping(config, script.config_class)
    whole = build_config(script.config_class, file, tree_of_texts(script.config_class, texts))
    _execute(script, whole, Start(directory=RunDirectory(output or default_output()), overwrite=overwrite))


def _sample_config(
    script: Script[Any],
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where; else printed.")] = None,
) -> None:
    """Print a configuration with every field, its default and what it may be; or write it to a file."""
    text = sample_yaml(script.config_class)
    if output is None:
        typer.echo(text, nl=False)
        return
    if output.exists():
        raise InvalidInputError(f"{output} exists already; remove it, or choose another name.")
    write_text(output, text)


def _go_on(script: Script[Any], directory: RunDirectory) -> None:
    """The run as it was asked for then."""
    config = build_config(script.config_class, directory.read_config())
    if directory.has_ended:
        typer.echo(f"The run in {directory.path} has ended already.")
        return
    _execute(script, config, Start(directory=directory, resumes=True))


def _execute(script: Script[Any], config: Any, start: Start) -> None:
    path = start.directory.path
    try:
        score = execute(script, config, start)
    except KeyboardInterrupt:
        typer.echo(f"Interrupted. Go on with: train --resume {path}", err=True)
        raise
    typer.echo(f"The run is in {path}{'' if score is None else f'; its {script.primary} is {score:.6g}'}.")


def _option(item: ConfigField) -> inspect.Parameter:
    """An option; its text is read as the field's type later, so that files and lines have the same rules."""
    if item.name in WORDS:
        raise InvalidInputError(f"The field {item.name!r} has the name of an option of the command line; rename it.")
    flag = item.name.replace("_", "-")
    common: dict[str, Any] = {"help": item.description, "show_default": _shown_default(item)}
    if item.kind is bool:
        prefix, dot, last = flag.rpartition(".")
        annotation: Any = Annotated[bool | None, typer.Option(f"--{flag}/--{prefix}{dot}no-{last}", **common)]
    else:
        annotation = Annotated[str | None, typer.Option(f"--{flag}", metavar=f"<{type_name(item.kind)}>", **common)]
    return option(_argument(item), annotation, None)


def _argument(item: ConfigField) -> str:
    """A field's name as that of a Python argument that no option has."""
    return f"field_{item.name.replace('.', '__')}"


def _shown_default(item: ConfigField) -> str:
    if item.default is dataclasses.MISSING:
        return "needed"
    return str(to_plain(item.default)) if item.default is not None else "none"
