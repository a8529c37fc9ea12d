"""The commands that train: from the first step, or from where an interrupted run stands."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from rl_framework.cli import options
from rl_framework.cli.parameters import parse_parameters, with_parameters
from rl_framework.cli.preset import Preset, preset_named, preset_names
from rl_framework.cli.printing import print_table
from rl_framework.errors import InvalidInputError

LIST = "list"


def train(
    environment: options.EnvironmentToTrain = "",
    *,
    algorithm: options.Algorithm = None,
    total_timesteps: options.TotalTimesteps = None,
    output: options.Output = None,
    overwrite: options.Overwrite = False,
    preset: options.PresetName = None,
    parameter: options.Parameters = None,
    normalize: options.Normalize = None,
    seed: options.TrainingSeed = None,
    n_envs: options.Copies = None,
    vectorization: options.Vectorization = "auto",
    checkpoint_every: options.CheckpointEvery = 10_000,
    keep_last: options.KeepLast = 3,
    stop_at_return: options.StopAtReturn = None,
    time_limit: options.TimeLimit = None,
    tensorboard: options.TensorBoard = None,
    evaluate_episodes: options.EvaluateEpisodes = 50,
    deterministic: options.EvaluateDeterministic = False,
    video: options.Video = False,
) -> None:
    """Train an agent, then evaluate it; everything goes into one folder.

    Ctrl-C ends it cleanly: a checkpoint is written, and [bold]resume[/bold] goes on from
    there as if nothing had happened. A second Ctrl-C stops at once.

    [bold]Examples[/bold]

      rl-framework train CartPole-v1 --algorithm PPO --total-timesteps 50000

      rl-framework train --preset cartpole-ppo --seed 1 --video

      rl-framework train --preset runs/tuning/best.yaml

      rl-framework train pettingzoo:mpe/simple_spread?N=5 -a native:PPO -n 200000 --n-envs 16

      rl-framework train unity:path/to/Game -a native:PPO -n 50000

      rl-framework train Pendulum-v1 -a SAC -n 20000 -P learning_rate=0.001

      rl-framework train CartPole-v1 -n 5000 -P 'policy_kwargs={"net_arch": [32]}'

      rl-framework train --preset pendulum-native-sac -P rule.network.hidden_sizes=[64,64]

      rl-framework train --preset list
    """
    from rl_framework.cli.run import has_tensorboard, train_run
    from rl_framework.cli.run_folder import RunFolder, RunSettings

    if preset == LIST:
        _print_presets()
        return
    base = training_basis(preset, environment, algorithm, total_timesteps)
    settings = RunSettings(
        environment=base.environment,
        algorithm=base.algorithm,
        total_timesteps=base.total_timesteps,
        parameters=with_parameters(
            base.parameters, {**parse_parameters(parameter or ()), **({} if seed is None else {"seed": seed})}
        ),
        normalization=training_normalization(base, normalize),
        n_envs=base.n_envs if n_envs is None else n_envs,
        vectorization=vectorization,
        checkpoint_every=checkpoint_every,
        keep_last=keep_last,
        stop_at_return=stop_at_return,
        time_limit=time_limit,
        tensorboard=has_tensorboard() if tensorboard is None else tensorboard,
        evaluate_episodes=evaluate_episodes,
        deterministic=deterministic,
        video=video,
        seed=seed,
        preset=preset,
    )
    train_run(RunFolder(output or default_output(base)), settings, overwrite=overwrite)


def resume(run: Annotated[Path, typer.Argument(help="Folder of an interrupted run.")]) -> None:
    """Finish an interrupted run from its latest checkpoint.

    Where the environments can be put back, the agent ends with the very weights
    that it would have had without the interruption. What the run was asked for
    stands in its folder; nothing needs to be said again.

    [bold]Example[/bold]

      rl-framework resume runs/cartpole
    """
    from rl_framework.cli.run import resume_run
    from rl_framework.cli.run_folder import RunFolder

    resume_run(RunFolder(run))


def training_basis(preset: str | None, environment: str, algorithm: str | None, total_timesteps: int | None) -> Preset:
    """What the preset says, if there is one, with what was said on the line in its place.

    Raises:
        UnknownOptionError: There is no such preset.
        InvalidInputError: There is no environment, no number of steps, or the preset is for another algorithm.
    """
    unset = Preset(name="", algorithm=algorithm or "PPO", environment="", total_timesteps=0, source="the command line")
    found = unset if preset is None else preset_named(preset)
    if algorithm is not None and algorithm.lower() != found.algorithm.lower():
        raise InvalidInputError(f"The preset {preset} is for {found.algorithm}, and --algorithm says {algorithm}.")
    base = replace(
        found,
        environment=environment or found.environment,
        total_timesteps=found.total_timesteps if total_timesteps is None else total_timesteps,
    )
    if not base.environment:
        raise InvalidInputError("Say which environment to train in, such as CartPole-v1, or choose a --preset.")
    if base.total_timesteps < 1:
        raise InvalidInputError("Say how long to train: --total-timesteps with a number above 0, such as 50000.")
    return base


def training_normalization(base: Preset, wanted: bool | None) -> dict[str, Any] | None:
    """Fields of `Normalization`: the preset's own, those that the line asks for, or None for none."""
    own = None if base.normalization is None else dict(base.normalization)
    if wanted is None:
        return own
    return own or {} if wanted else None


def default_output(base: Preset) -> Path:
    """The folder of a run that was given none."""
    return Path("runs") / re.sub(r"[^\w.]+", "-", f"{base.environment}-{base.algorithm}").lower()


def _print_presets() -> None:
    presets = map(preset_named, preset_names())
    rows = [
        (each.name, each.algorithm, each.environment, f"{each.total_timesteps:,}", str(each.n_envs), each.source)
        for each in presets
    ]
    print_table(("preset", "algorithm", "environment", "steps", "copies", "source"), rows)
