"""The application: its commands, its help, and how it ends."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from rl_framework.cli import environments, saved_agents, sharing, training, tuning
from rl_framework.launch.command_group import Commands

app = typer.Typer(
    name="rl-framework",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from rl_framework.checkpoints.manifest import library_version

        typer.echo(library_version())
        raise typer.Exit


@app.callback()
def _application(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Train, tune, evaluate, record, resume and share reinforcement learning agents.

    A run of [bold]train[/bold] is a folder with the agent, checkpoints, reports and results.
    The other commands take that folder, a saved agent, a folder of checkpoints, or an address
    such as [bold]hf://owner/name[/bold].

    [bold]Examples[/bold]

      rl-framework train CartPole-v1 -n 50000 --output runs/cartpole

      rl-framework evaluate runs/cartpole --episodes 100

      rl-framework record runs/cartpole --output cartpole.mp4

      rl-framework resume runs/cartpole

      rl-framework tune CartPole-v1 -n 50000 --n-trials 20 --workers 2

      rl-framework push runs/cartpole hf://me/cartpole-ppo
    """


app.command()(training.train)
app.command()(training.resume)
app.command()(tuning.tune_command)
app.command(hidden=True)(tuning.tune_worker)
app.command()(saved_agents.evaluate)
app.command()(saved_agents.record)
app.command()(saved_agents.compare)
app.command()(saved_agents.info)
app.command()(sharing.push)
app.command()(sharing.pull)
app.add_typer(sharing.outbox, name="outbox")
app.command()(environments.environments)


def main() -> None:
    """Run the command line of this process, and end it with an exit code.

    0: done; 1: failed; 2: the input does not fit; 130: Ctrl-C.
    """
    # No command opens a window; without this, drawing a picture complains where there is no screen.
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    app(prog_name="rl-framework")
