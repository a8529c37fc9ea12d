"""A run from the first step to the last file: train or resume, then save, evaluate and record."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer
from typing_extensions import override

from rl_framework.callbacks.base import Callback, RunHandle
from rl_framework.callbacks.checkpoint_schedule import CheckpointSchedule
from rl_framework.callbacks.stop_conditions import StopOnReturn, StopOnWallTime
from rl_framework.cli.algorithms import make_agent
from rl_framework.cli.run_folder import RunFolder, RunSettings, write_json
from rl_framework.connectors.base import Tracker
from rl_framework.connectors.local import LocalConnector
from rl_framework.connectors.tee import Tee
from rl_framework.connectors.tensorboard import TensorBoardTracker
from rl_framework.errors import InvalidInputError, MissingExtraError

if TYPE_CHECKING:
    from rl_framework.agent.reinforcement_learning_agent import RLAgent
    from rl_framework.core.reports import TrainingSummary


class RunOpening(Callback):
    """Writes down how a run was asked for, once everything fits and before its first checkpoint.

    Args:
        folder: Where the run goes; what an earlier run left there is removed.
        settings: How it was asked for.
        tracker: Is told the parameters.
    """

    def __init__(self, folder: RunFolder, settings: RunSettings, tracker: Tracker) -> None:
        self._folder = folder
        self._settings = settings
        self._tracker = tracker

    @override
    def on_training_start(self, run: RunHandle) -> None:
        """Make room, and write the settings."""
        self._folder.clear()
        self._folder.write_settings(self._settings)
        self._tracker.log_parameters(asdict(self._settings))


def train_run(folder: RunFolder, settings: RunSettings, *, overwrite: bool = False) -> None:
    """Train an agent, and save, evaluate and record it in the folder of its run.

    Args:
        folder: Where the run goes.
        settings: What to do.
        overwrite: Replace the run that is in the folder, once everything else fits.

    Raises:
        InvalidInputError: Something does not fit; nothing was written.
        KeyboardInterrupt: Ctrl-C, after a checkpoint was written.
    """
    if not overwrite:
        folder.check_free()
    _check_extras(settings)
    agent = make_agent(settings.algorithm, settings.parameters, settings.normalization)
    with _telling_how_to_go_on(folder), open_tracker(folder, settings) as tracker:
        summary = agent.train(
            settings.environment,
            settings.total_timesteps,
            connector=tracker,
            callbacks=[RunOpening(folder, settings, tracker), *_stop_conditions(settings)],
            n_envs=settings.n_envs,
            vectorization=settings.vectorization,
            checkpoint=_schedule(folder, settings),
        )
        _finish(folder, settings, agent, summary)


def resume_run(folder: RunFolder) -> None:
    """Do what is left of an interrupted run: of its training, and of what comes after it.

    Raises:
        MissingArchiveError: The folder is not a run.
        InvalidInputError: It has no checkpoint yet.
        KeyboardInterrupt: Ctrl-C, after a checkpoint was written.
    """
    settings = folder.read_settings()
    _check_extras(settings)
    if folder.is_trained:
        typer.echo(f"The training of {folder.path} has ended already.")
        _complete(folder, settings, _load(folder.agent))
        return
    checkpoint = folder.latest_checkpoint()
    if checkpoint is None:
        raise InvalidInputError(
            f"{folder.path} was interrupted before its first checkpoint. Start anew with `rl-framework train ... "
            "--overwrite`."
        )
    typer.echo(f"Going on from {checkpoint}.")
    agent = _load(checkpoint)
    with _telling_how_to_go_on(folder), open_tracker(folder, settings) as tracker:
        summary = agent.resume(
            settings.environment,
            connector=tracker,
            callbacks=_stop_conditions(settings),
            vectorization=settings.vectorization,
            checkpoint=_schedule(folder, settings),
        )
        _finish(folder, settings, agent, summary)


def open_tracker(folder: RunFolder, settings: RunSettings) -> Tracker:
    """Where the numbers of a run go; made with the first of them, and closed by whoever asked for it."""
    local = LocalConnector(folder.reports)
    return Tee(local, TensorBoardTracker(folder.tensorboard)) if settings.tensorboard else local


def has_tensorboard() -> bool:
    """Whether the extra is installed; it is not imported."""
    return importlib.util.find_spec("tensorboard") is not None


def _check_extras(settings: RunSettings) -> None:
    """Find out now what would be missing at the end."""
    if settings.tensorboard and not has_tensorboard():
        raise MissingExtraError("--tensorboard", "tensorboard")
    if settings.video:
        from rl_framework.video.encoding import ffmpeg_program

        ffmpeg_program()


def _stop_conditions(settings: RunSettings) -> list[Callback]:
    conditions: list[Callback] = []
    if settings.stop_at_return is not None:
        conditions.append(StopOnReturn(settings.stop_at_return))
    if settings.time_limit is not None:
        conditions.append(StopOnWallTime(settings.time_limit))
    return conditions


def _schedule(folder: RunFolder, settings: RunSettings) -> CheckpointSchedule:
    return CheckpointSchedule(folder.checkpoints, settings.checkpoint_every, keep_last=settings.keep_last)


def _load(path: Any) -> RLAgent:
    from rl_framework.agent.catalog import load_agent
    from rl_framework.agent.reinforcement_learning_agent import RLAgent

    agent = load_agent(path)
    if not isinstance(agent, RLAgent):
        raise InvalidInputError(f"{path} holds an agent of kind {agent.kind!r}, which does not learn by acting.")
    return agent


def _finish(folder: RunFolder, settings: RunSettings, agent: RLAgent, summary: TrainingSummary) -> None:
    """Save the agent first: from then on its training counts as done."""
    agent.save(folder.agent)
    _print_summary(summary)
    _complete(folder, settings, agent)


def _complete(folder: RunFolder, settings: RunSettings, agent: RLAgent) -> None:
    """Whatever of the results is not there yet, then where everything is."""
    if settings.evaluate_episodes and not folder.results.exists():
        _evaluate(folder, settings, agent)
    if settings.video and not folder.replay.exists():
        agent.record_video(settings.environment, folder.replay, seed=settings.seed)
    _print_places(folder)


def _evaluate(folder: RunFolder, settings: RunSettings, agent: RLAgent) -> None:
    evaluation = agent.evaluate(
        settings.environment,
        settings.evaluate_episodes,
        deterministic=settings.deterministic,
        seed=settings.seed,
    )
    write_json(folder.results, evaluation.to_dict())
    typer.echo(str(evaluation))


def _print_summary(summary: TrainingSummary) -> None:
    speed = summary.taken_timesteps / max(summary.duration_seconds, 1e-9)
    typer.echo(
        f"Trained for {summary.taken_timesteps:,} steps in {summary.duration_seconds:.1f} s ({speed:,.0f} steps/s), "
        f"{summary.total_timesteps:,} in total."
    )
    if summary.stop_reason is not None:
        typer.echo(f"Stopped early: {summary.stop_reason}.")
    if summary.resume_level != "exact":
        typer.echo(f"A run in this environment can be resumed, but not to the bit: {summary.resume_level}.")


def _print_places(folder: RunFolder) -> None:
    places: Mapping[str, Any] = {
        "agent": folder.agent,
        "results": folder.results,
        "replay": folder.replay,
        "checkpoints": folder.checkpoints,
        "reports": folder.reports,
        "tensorboard": folder.tensorboard,
    }
    for name, place in places.items():
        if place.exists():
            typer.echo(f"  {name + ':':<13}{place}")


@contextmanager
def _telling_how_to_go_on(folder: RunFolder) -> Iterator[None]:
    """After Ctrl-C, say what is on disk."""
    try:
        yield
    except KeyboardInterrupt:
        place = folder.agent if folder.is_trained else folder.latest_checkpoint()
        if place is not None:
            typer.echo(f"Interrupted; {place} is saved. Go on with: rl-framework resume {folder.path}", err=True)
        raise
