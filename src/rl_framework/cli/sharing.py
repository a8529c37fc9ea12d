"""The commands that share agents: push one to a service, pull one from there, and look after what waits to be sent."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rl_framework.cli import options
from rl_framework.cli.printing import print_json, print_table
from rl_framework.cli.saved_agents import info, known_environment
from rl_framework.errors import ConnectorError, MissingArchiveError

if TYPE_CHECKING:
    from rl_framework.agent.base_agent import Agent
    from rl_framework.connectors.base import Connector
    from rl_framework.connectors.outbox import Delivery, Outbox
    from rl_framework.connectors.outbox_entry import Entry

WAITING = "outbox:"
SHORT_ID = 8
UNITS = (("d", 86_400), ("h", 3_600), ("min", 60))

outbox = typer.Typer(
    help="See, send or discard the pushes that could not reach their service yet.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def push(
    path: options.Agent,
    destination: Annotated[
        str,
        typer.Argument(
            help="Where to: hf://owner/name or hf://owner/name@branch, clearml://project/task, mlflow://experiment, "
            "or a folder on this machine."
        ),
    ],
    *,
    env: options.Environment = "",
    episodes: options.Episodes = 20,
    video_length: Annotated[
        int, typer.Option("--video-length", min=0, metavar="N", help="Steps of the replay at most; 0 for none.")
    ] = 1000,
    evaluation: Annotated[
        bool, typer.Option("--evaluation/--no-evaluation", help="Evaluate and record the agent first.")
    ] = True,
    message: Annotated[
        str | None, typer.Option("--message", "-m", metavar="TEXT", help="A sentence about this version.")
    ] = None,
    license_name: Annotated[
        str | None,
        typer.Option("--license", metavar="NAME", help="Licence of the agent, as the Hub names it, such as mit."),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Make a new repository of the Hub visible to its owner only.")
    ] = False,
) -> None:
    """Put a saved agent where others find it, with its evaluation, a replay and a card.

    The agent is evaluated where it was trained, or in the environment named by [bold]--env[/bold].
    What cannot reach its service now waits in the outbox; nothing is lost.

    [bold]Examples[/bold]

      rl-framework push runs/cartpole hf://me/cartpole-ppo --license mit

      rl-framework push runs/cartpole hf://me/cartpole-ppo --private --message "Longer training"

      rl-framework push agent.zip mlflow://cartpole --env CartPole-v1 --episodes 100

      rl-framework push runs/cartpole /shared/agents/cartpole --no-evaluation
    """
    from rl_framework.agent.catalog import load_agent
    from rl_framework.connectors.addresses import open_destination

    with open_destination(destination, private=private) as connector:
        agent = load_agent(path)
        where = agent.upload(
            connector,
            evaluation_environment=_where_to_evaluate(agent, path, env) if evaluation else None,
            n_eval_episodes=episodes,
            video_length=video_length,
            license_name=license_name,
            message=message,
        )
    _tell_where(where)


def pull(
    uri: Annotated[
        str,
        typer.Argument(
            help="Where from: hf://owner/name or hf://owner/name@revision, clearml://id, mlflow://model or "
            "mlflow://model@alias, or a folder on this machine that was pushed to."
        ),
    ],
    *,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="Where to put it; only a saved agent that is there is replaced."
        ),
    ],
) -> None:
    """Get an agent from a service, check that it is whole, and tell what it is.

    Nothing that comes with the agent is executed.

    [bold]Examples[/bold]

      rl-framework pull hf://me/cartpole-ppo --output agents/cartpole

      rl-framework pull hf://me/cartpole-ppo@v1 --output agents/cartpole-v1

      rl-framework pull mlflow://cartpole@newest --output agents/cartpole
    """
    from rl_framework.checkpoints.archive import save_archive

    connector, revision = _source(uri)
    with connector:
        save_archive(output, lambda folder: _fetch(connector, revision, folder))
    info(str(output))


@outbox.command("list")
def list_outbox(json: options.Json = False) -> None:
    """List what waits, in the order in which it is to be sent.

    [bold]Example[/bold]

      rl-framework outbox list
    """
    box = _outbox()
    entries = box.entries()
    if json:
        print_json([_record(entry) for entry in entries])
    elif entries:
        headings = ("id", "age", "destination", "what", "attempts", "last error")
        print_table(headings, [_row(entry) for entry in entries])
    else:
        typer.echo(f"Nothing waits in the outbox {box.folder}.")


@outbox.command("send")
def send_outbox() -> None:
    """Send what waits; what is there already is not sent twice. The exit code is 1 if something still waits.

    The pushes to one place keep their order: when one fails, those behind it wait, too.

    [bold]Example[/bold]

      rl-framework outbox send
    """
    box = _outbox()
    for delivery in box.send():
        _tell_delivery(delivery)
    left = len(box.entries())
    if left:
        typer.echo(f"Still waiting: {left}. They are shown by: rl-framework outbox list")
        raise typer.Exit(1)
    typer.echo(f"Nothing waits in the outbox {box.folder}.")


@outbox.command("discard")
def discard_from_outbox(
    entry: Annotated[str, typer.Argument(metavar="ID", help="Its id as the list shows it, or the beginning of it.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove a push that waits without sending it.

    [bold]Example[/bold]

      rl-framework outbox discard 1f2e3d4c
    """
    box = _outbox()
    meant = [each for each in box.entries() if entry and each.id.startswith(entry)]
    if len(meant) == 1 and not yes:
        question = f"Remove the push {_short(meant[0])} to {meant[0].address.destination} without sending it?"
        typer.confirm(question, abort=True)
    gone = box.discard(meant[0].id if len(meant) == 1 else entry)
    typer.echo(f"Removed {_short(gone)}, which was to go to {gone.address.destination}.")


def _where_to_evaluate(agent: Agent, path: str, given: str) -> str | None:
    """The environment that is known, if one is; otherwise the user is told."""
    found = known_environment(agent, path, given)
    if found is None:
        typer.echo(f"Not evaluated: {path} does not say where it was trained. Name an environment by --env.", err=True)
    return found


def _tell_where(where: str) -> None:
    if not where.startswith(WAITING):
        typer.echo(where)
        return
    name = where.removeprefix(WAITING)[:SHORT_ID]
    typer.echo(
        f"Not there yet: the push waits in the outbox as {name}. Why is shown by: rl-framework outbox list\n"
        "Send it with: rl-framework outbox send"
    )


def _source(uri: str) -> tuple[Connector, str | None]:
    """Where to pull from, and which revision. A folder is one that was pushed to."""
    from rl_framework.connectors.addresses import is_address, open_address, open_destination

    return open_address(uri) if is_address(uri) else (open_destination(uri), None)


def _fetch(connector: Connector, revision: str | None, folder: Path) -> None:
    """Download into an empty folder and check what came.

    Raises:
        ConnectorError: It is no agent of this library.
        ArchiveError: It is damaged.
    """
    from rl_framework.checkpoints.manifest import MANIFEST_FILE, Manifest

    connector.download(folder, revision=revision)
    try:
        Manifest.read(folder)
    except MissingArchiveError as error:
        content = ", ".join(sorted(part.name for part in folder.iterdir())[:10])
        raise ConnectorError(
            f"Expected an agent that was pushed from here, with a {MANIFEST_FILE}, but found only {content}."
        ) from error


def _outbox() -> Outbox:
    from rl_framework.connectors.outbox import Outbox

    return Outbox()


def _tell_delivery(delivery: Delivery) -> None:
    """Where a push went, or why it still waits, and what can be done if it will never go."""
    from rl_framework.errors import UnreachableServiceError

    entry, name = delivery.entry, _short(delivery.entry)
    if delivery.location is not None:
        typer.echo(f"{name} went to {delivery.location}")
        return
    typer.secho(f"{name} to {entry.address.destination} still waits: {delivery.error}", fg=typer.colors.RED, err=True)
    if not isinstance(delivery.error, UnreachableServiceError):
        typer.echo(f"If it can never be sent, remove it with: rl-framework outbox discard {name}", err=True)


def _row(entry: Entry) -> tuple[str, ...]:
    what = entry.message or ("agent" if entry.step is None else f"checkpoint at {entry.step:,} steps")
    texts = (entry.address.destination, " ".join(what.split()))
    error = " ".join((entry.last_error or "").split())
    return (_short(entry), _age(entry.created), *texts, str(entry.attempts), error)


def _record(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "created": entry.created,
        "destination": entry.address.destination,
        "message": entry.message,
        "step": entry.step,
        "attempts": entry.attempts,
        "last_error": entry.last_error,
    }


def _short(entry: Entry) -> str:
    return entry.id[:SHORT_ID]


def _age(created: str) -> str:
    """How long ago, in the largest unit that it fills."""
    seconds = max((datetime.now(timezone.utc) - datetime.fromisoformat(created)).total_seconds(), 0.0)
    fitting = (f"{seconds / length:.0f} {unit}" for unit, length in UNITS if seconds >= length)
    return next(fitting, f"{seconds:.0f} s")
