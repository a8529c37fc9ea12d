"""Commands that end in messages and exit codes instead of tracebacks, and options that are made as the program runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import partial, update_wrapper
from typing import Any

import typer
from typer.core import TyperGroup

from rl_framework.errors import InvalidInputError, MissingArchiveError, RLFrameworkError

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
BAD_INPUTS = (InvalidInputError, MissingArchiveError)


class Commands(TyperGroup):
    """The commands. What goes wrong on purpose becomes a message and an exit code instead of a traceback.

    `--debug` may stand anywhere on the line.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take `--debug` from wherever it stands."""
        if "--debug" in args:
            args = ["--debug", *(each for each in args if each != "--debug")]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except RLFrameworkError as error:
            if ctx.params.get("debug"):
                raise
            typer.secho(f"Error: {error}", fg=typer.colors.RED, err=True)
            raise typer.Exit(BAD_INPUT if isinstance(error, BAD_INPUTS) else FAILED) from None


def command_with(
    function: Callable[..., None], options: Iterable[inspect.Parameter] = (), *arguments: Any
) -> Callable[..., None]:
    """A command out of a function whose `**keywords` are options that are known only as the program runs.

    Args:
        function: Its annotated parameters are options, too.
        options: What stands in the place of `**keywords`; each with an annotation for Typer.
        arguments: The function's first arguments, which are no options.
    """
    own = list(inspect.signature(function, eval_str=True).parameters.values())[len(arguments) :]
    named = [each for each in own if each.kind is not inspect.Parameter.VAR_KEYWORD]
    command: Any = update_wrapper(partial(function, *arguments), function)
    command.__signature__ = inspect.Signature([*named, *options])
    command.__annotations__ = {}
    return command  # type: ignore[no-any-return]  # a partial with a signature is one


def option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    """An option for `command_with`."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
