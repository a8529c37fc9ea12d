"""The commands that take a saved agent: evaluate, record, compare, and say what it is."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rl_framework.cli import options
from rl_framework.cli.printing import in_words, print_json, print_table
from rl_framework.errors import InvalidInputError

if TYPE_CHECKING:
    from rl_framework.agent.base_agent import Agent
    from rl_framework.checkpoints.manifest import Manifest
    from rl_framework.evaluation.evaluation import Evaluation


def evaluate(
    path: options.Agent,
    *,
    env: options.Environment = "",
    episodes: options.Episodes = 100,
    seed: options.Seed = None,
    deterministic: options.Deterministic = False,
    json: options.Json = False,
) -> None:
    """Play episodes with a saved agent and tell what they gave.

    [bold]Examples[/bold]

      rl-framework evaluate runs/cartpole --episodes 100 --seed 7

      rl-framework evaluate runs/cartpole/checkpoints/step_000000010000 --deterministic

      rl-framework evaluate downloaded-agent.zip --env CartPole-v1 --json

      rl-framework evaluate hf://me/cartpole-ppo
    """
    evaluation = _evaluate(path, env, episodes, seed, deterministic)
    if json:
        print_json(evaluation.to_dict())
    else:
        typer.echo(str(evaluation))
        for agent, own in evaluation.by_agent().items():
            typer.echo(f"  {agent}: {own}")


def record(
    path: options.Agent,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The video, ending in .mp4 or .gif.")],
    env: options.Environment = "",
    episodes: options.Episodes = 1,
    seed: options.Seed = None,
    stochastic: options.Stochastic = False,
    max_steps: Annotated[
        int | None, typer.Option("--max-steps", min=1, metavar="N", help="End after so many steps.")
    ] = None,
) -> None:
    """Record a saved agent at work.

    [bold]Example[/bold]

      rl-framework record runs/cartpole --output cartpole.mp4 --episodes 3
    """
    from rl_framework.agent.catalog import load_agent

    agent = load_agent(path)
    video = agent.record_video(
        _environment_of(agent, path, env),
        output,
        episodes,
        deterministic=not stochastic,
        seed=seed,
        max_steps=max_steps,
    )
    typer.echo(str(video))


def compare(
    a: options.Agent,
    b: options.Agent,
    *,
    env: options.Environment = "",
    episodes: options.Episodes = 100,
    seed: options.Seed = None,
    deterministic: options.Deterministic = False,
) -> None:
    """Let two saved agents play the same episodes, and tell which is better.

    [bold]Example[/bold]

      rl-framework compare runs/cartpole runs/cartpole-dqn --episodes 200
    """
    from rl_framework.core.seeding import fresh_seed
    from rl_framework.evaluation.comparison import compare as compare_returns

    seed = fresh_seed() if seed is None else seed
    ours, theirs = (_evaluate(path, env, episodes, seed, deterministic) for path in (a, b))
    compare_returns(ours, theirs, names=_names(a, b)).print_table()


def info(path: options.Agent, json: options.Json = False) -> None:
    """Tell what a saved agent is, and check that its files are whole.

    [bold]Example[/bold]

      rl-framework info runs/cartpole
    """
    from rl_framework.checkpoints.archive import open_archive
    from rl_framework.checkpoints.manifest import Manifest
    from rl_framework.checkpoints.plain_values import encode

    place = _place_of(path)
    with open_archive(place) as folder:
        manifest = Manifest.read(folder)
        resume_level = _resume_level(folder)
    if json:
        print_json({"path": str(place), "resume_level": resume_level, **encode(asdict(manifest))})
    else:
        print_table(("", str(place)), _description(manifest, resume_level))


def known_environment(agent: Agent, path: str, given: str) -> str | None:
    """The environment that was named, else that of the agent's run, else the one that the agent was trained in."""
    from rl_framework.cli.run_folder import run_around
    from rl_framework.connectors.addresses import is_address

    run = None if is_address(path) else run_around(Path(path).expanduser())
    known = given or (run.read_settings().environment if run is not None else None)
    found = known or getattr(agent, "environment_id", None)
    return None if found is None else str(found)


def _evaluate(path: str, env: str, episodes: int, seed: int | None, deterministic: bool) -> Evaluation:
    from rl_framework.agent.catalog import load_agent

    agent = load_agent(path)
    return agent.evaluate(_environment_of(agent, path, env), episodes, seed=seed, deterministic=deterministic)


def _environment_of(agent: Agent, path: str, given: str) -> str:
    """The environment that is known.

    Raises:
        InvalidInputError: None is.
    """
    found = known_environment(agent, path, given)
    if found is None:
        raise InvalidInputError(f"{path} does not say where it was trained: name one, such as --env CartPole-v1.")
    return found


def _place_of(path: str) -> Path:
    """The saved agent that was named; one at a service is fetched into the cache first."""
    from rl_framework.checkpoints.locate import find_agent
    from rl_framework.connectors.addresses import is_address, open_address

    if not is_address(path):
        return find_agent(path)
    connector, revision = open_address(path)
    with connector:
        return find_agent(connector.download(revision=revision))


def _names(a: str, b: str) -> tuple[str, str]:
    """The last parts of the paths if they tell them apart, else the whole paths."""
    names = Path(a).name, Path(b).name
    return names if names[0] != names[1] else (a, b)


def _resume_level(folder: Path) -> str | None:
    """How exactly the run that wrote the agent can be resumed from it; None if there is nothing to resume."""
    from rl_framework.agent.continuation import Continuation

    continuation = Continuation.read(folder / "training_state")
    return None if continuation is None else str(continuation.level)


def _description(manifest: Manifest, resume_level: str | None) -> list[tuple[str, str]]:
    n_bytes = sum(file["size"] for file in manifest.files.values())
    return [
        ("kind", manifest.kind),
        ("algorithm", manifest.algorithm),
        ("steps", f"{manifest.timesteps:,}"),
        ("observations", _space(manifest.observation_space)),
        ("actions", _space(manifest.action_space)),
        ("parameters", in_words(manifest.parameters)),
        ("options", in_words(manifest.options)),
        ("resume", resume_level or "nothing to resume"),
        ("saved", f"{manifest.created}, {n_bytes / 1e6:.2f} MB in {len(manifest.files) + 1} files, all whole"),
        ("versions", in_words(manifest.library_versions)),
        ("format", str(manifest.format_version)),
    ]


def _space(description: dict[str, Any] | None) -> str:
    from rl_framework.core.spaces import space_from_json

    return "unknown" if description is None else str(space_from_json(description))
