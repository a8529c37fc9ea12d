"""The commands that tune agents."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer

from rl_framework.cli import options
from rl_framework.cli.parameters import parse_parameters
from rl_framework.cli.preset import Preset
from rl_framework.cli.training import training_basis, training_normalization
from rl_framework.errors import InvalidInputError, UnknownOptionError
from rl_framework.launch.command_group import command_with
from rl_framework.launch.search_space import SearchSpace, parse_search_space, search_space_from_json
from rl_framework.launch.tuning.options import tuning_options, tuning_settings

Search = Annotated[
    list[str] | None,
    typer.Option(
        "--search",
        metavar="NAME=RANGE",
        rich_help_panel="How values are chosen",
        help="What to choose a parameter from, instead of the default: 1e-5..1e-2:log, 0..1:step=0.1 or 32,64,128; "
        "none to leave it alone. Repeatable.",
    ),
]
Fixed = Annotated[
    list[str] | None,
    typer.Option(
        "--parameter",
        "-P",
        metavar="NAME=X",
        rich_help_panel=options.SETUP,
        help="A parameter that is not tuned; may be repeated.",
    ),
]
Episodes = Annotated[
    int,
    typer.Option(
        "--evaluate-episodes",
        min=1,
        metavar="N",
        rich_help_panel="What counts",
        help="Episodes after training, whose mean return is a run's score.",
    ),
]
Copies = Annotated[
    int | None,
    typer.Option(
        "--n-envs",
        min=1,
        metavar="N",
        rich_help_panel=options.SETUP,
        help="Copies of the environment side by side.",
        show_default="as the preset or the search space says",
    ),
]
NOT_TUNED = "none"
SEED = "seed"


def tune(
    environment: options.EnvironmentToTrain = "",
    *,
    algorithm: options.Algorithm = None,
    total_timesteps: options.TotalTimesteps = None,
    preset: options.PresetName = None,
    parameter: Fixed = None,
    search: Search = None,
    normalize: options.Normalize = None,
    seed: options.TrainingSeed = 0,
    n_envs: Copies = None,
    vectorization: options.Vectorization = "serial",
    evaluate_episodes: Episodes = 20,
    deterministic: options.EvaluateDeterministic = False,
    **given: Any,
) -> None:
    """Search for the best parameters of an algorithm in an environment.

    Trials run side by side in processes of their own; one that dies is tried again,
    and one without prospects is ended early. The same line goes on with a study that
    was interrupted. The best parameters are written to best.yaml, which
    [bold]train[/bold] takes as its --preset.

    [bold]Examples[/bold]

      rl-framework tune CartPole-v1 -a native:PPO -n 50000 --n-trials 20 --workers 2

      rl-framework tune Pendulum-v1 -a SAC -n 10000 --search learning_rate=1e-4..1e-2:log

      rl-framework train --preset runs/tuning/best.yaml
    """
    from rl_framework.cli.agent_experiment import PREFIX, AgentExperiment
    from rl_framework.launch.tuning.tune import tune as conduct

    base = training_basis(preset, environment, algorithm, total_timesteps)
    defaults = search_space_of(base.algorithm)
    fixed = parse_parameters(parameter or ())
    usual = defaults.get("parameters", {}) if preset is None else base.parameters
    space = chosen_space(defaults.get("space", {}), fixed, search or ())
    tree: dict[str, Any] = {
        "environment": base.environment,
        "algorithm": base.algorithm,
        "total_timesteps": base.total_timesteps,
        "n_envs": n_envs or (defaults.get("n_envs", 1) if preset is None else base.n_envs),
        "vectorization": vectorization,
        "normalization": training_normalization(base, normalize),
        "evaluate_episodes": evaluate_episodes,
        "deterministic": deterministic,
        "seed": seed or 0,
        "parameters": {**usual, **as_json(base.algorithm, fixed)},
    }
    check_names(base, tree["parameters"], space)
    experiment = AgentExperiment(tree, {PREFIX + name: each for name, each in space.items()})
    name = f"{base.environment}-{base.algorithm}".replace("/", "-").replace(":", "-").lower()
    conduct(experiment, tuning_settings(given, output=Path("runs", f"{name}-tuning"), study_name=name), typer.echo)


def tune_worker() -> None:
    """Conduct trials; [bold]tune[/bold] starts this."""
    from rl_framework.cli.agent_experiment import agent_experiment
    from rl_framework.launch.tuning.trial_worker import serve_trials

    serve_trials(agent_experiment)


tune_command = command_with(tune, tuning_options())


def search_space_of(algorithm: str) -> dict[str, Any]:
    """What is known to be worth a search, from the folder `search_spaces`; empty for other algorithms.

    Returns:
        `space`: JSON forms of search spaces by the parameter's name; `parameters`: values that go with them;
        `n_envs`: how many environments they are meant for.
    """
    file = files("rl_framework.cli") / "search_spaces" / f"{algorithm.lower().replace(':', '-')}.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found


def chosen_space(
    defaults: Mapping[str, Any], fixed: Mapping[str, Any], search: Sequence[str]
) -> dict[str, SearchSpace]:
    """What is tuned: the defaults, without what is fixed, and what the line says in their place.

    Raises:
        InvalidInputError: A text is not `name=range`, a parameter is both fixed and searched, or it is the seed.
    """
    asked = dict(map(_split, search))
    if SEED in {*asked, *fixed}:
        raise InvalidInputError("Say the seed by --seed: each run of a trial has it, or a number after it.")
    both = sorted(set(asked) & set(fixed))
    if both:
        raise InvalidInputError(f"{', '.join(both)} cannot be fixed by --parameter and searched by --search at once.")
    usual = {name: node for name, node in defaults.items() if name not in asked and name.split(".")[0] not in fixed}
    own = {name: parse_search_space(name, text) for name, text in asked.items() if text != NOT_TUNED}
    return {**{name: search_space_from_json(name, node) for name, node in usual.items()}, **own}


def check_names(base: Preset, parameters: Mapping[str, Any], space: Mapping[str, SearchSpace]) -> None:
    """Refuse an algorithm or a parameter that does not exist, before a study begins.

    Raises:
        UnknownOptionError: One does not.
        InvalidInputError: A parameter that is not tuned is out of range.
    """
    from rl_framework.agent.reinforcement.native import NativeAgent
    from rl_framework.cli.algorithms import make_agent

    agent: Any = make_agent(base.algorithm, {**parameters, "seed": 0}, base.normalization)
    names = dict.fromkeys(name.split(".")[0] for name in space)
    if not isinstance(agent, NativeAgent):
        from rl_framework.agent.reinforcement.stable_baselines.parameters import check_parameters

        check_parameters(agent.algorithm_class, names)
        return
    known = {each.name for each in dataclasses.fields(agent.config)}
    for name in names:
        if name not in known:
            raise UnknownOptionError.of(f"parameter of {base.algorithm}", name, known)


def as_json(algorithm: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters in the JSON form of saved agents, which knows tuples where the algorithm's library needs them."""
    from rl_framework.cli.algorithms import NATIVE

    if algorithm.lower() in map(str.lower, NATIVE):
        return dict(parameters)
    from rl_framework.agent.reinforcement.stable_baselines.parameters import encode

    return {name: encode(value) for name, value in parameters.items()}


def _split(text: str) -> tuple[str, str]:
    name, equals, space = text.partition("=")
    if not equals or not name.strip():
        raise InvalidInputError(f"Expected --search name=range, such as --search gamma=0.9,0.99; got {text!r}.")
    return name.strip(), space.strip()
