"""Agents that learn by acting: one way to train and to resume, whatever the engine."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_framework.agent.base_agent import Agent
from rl_framework.callbacks.base import Callback
from rl_framework.callbacks.checkpoint_schedule import CheckpointSchedule, as_checkpoint_schedule
from rl_framework.callbacks.function import as_callback
from rl_framework.callbacks.progress_bar import ProgressBar
from rl_framework.callbacks.run import RunStopped, TrainingRun
from rl_framework.callbacks.tracking import TrackerCallback
from rl_framework.checkpoints.state_tree import read_state, write_state
from rl_framework.core.reports import Report, TrainingSummary
from rl_framework.core.seeding import capture_random_state
from rl_framework.core.spaces import check_equal
from rl_framework.core.trees import Tree
from rl_framework.envs.source import open_environments
from rl_framework.envs.vector_env import EnvironmentState, EnvSpec, StateLevel, VectorEnv
from rl_framework.errors import InvalidInputError

if TYPE_CHECKING:
    from rl_framework.connectors.base import Tracker

logger = logging.getLogger(__name__)

CallbackLike = Callback | Callable[[Report], Any]
CONTINUATION = "continuation"


@dataclass(frozen=True, kw_only=True, slots=True)
class Continuation:
    """What lies outside the agent and must be put back for an exact resume.

    Attributes:
        environments: Where the environments were.
        random: State of the process's random generators.
        run: State of the training run: its target, its statistics, its callbacks.
        n_envs: Number of environments.
        environment_id: Their registered id, None if there is none.
    """

    environments: EnvironmentState
    random: dict[str, Any]
    run: dict[str, Any]
    n_envs: int
    environment_id: str | None

    @classmethod
    def capture(cls, env: VectorEnv, run: TrainingRun) -> Continuation:
        """Look at the environments, the generators and the run, now."""
        return cls(
            environments=env.get_state(),
            random=capture_random_state(),
            run=run.state_dict(),
            n_envs=env.spec.n_envs,
            environment_id=env.spec.id,
        )

    def to_tree(self) -> dict[str, Any]:
        """A plain tree that can be written to a file."""
        return {
            "level": int(self.environments.level),
            "rows": list(self.environments.rows),
            "random": self.random,
            "run": self.run,
            "n_envs": self.n_envs,
            "environment_id": self.environment_id,
        }

    @classmethod
    def from_tree(cls, tree: dict[str, Any]) -> Continuation:
        """Take back what `to_tree` gave."""
        environments = EnvironmentState(level=StateLevel(tree["level"]), rows=tuple(tree["rows"]))
        rest = {name: tree[name] for name in ("random", "run", "n_envs", "environment_id")}
        return cls(environments=environments, **rest)


@dataclass(frozen=True, kw_only=True, slots=True)
class Resumption:
    """How a resumed run begins.

    Attributes:
        observations: Current observations of the environments after they were put back. `[B, ...]`
        level: How exactly they were put back.
        random: State of the random generators, to be restored as the last thing before the first step.
    """

    observations: Tree
    level: StateLevel
    random: dict[str, Any]


class RLAgent(Agent):
    """Base of agents that learn by acting.

    `train` and `resume` open the environments, watch the run and close up afterwards. A subclass with an engine of
    its own fills four blanks: how many steps it has learned from, how it takes up environments, how it learns, and
    how it lets go of them.

    Attributes:
        environment_id: Registered id of the environments that it was last trained in, None if there was none.
    """

    def __init__(self) -> None:
        self.environment_id: str | None = None
        self._continuation: Continuation | None = None
        self._capture: Callable[[], Continuation] | None = None

    @property
    @abstractmethod
    def timesteps(self) -> int:
        """Environment steps that the agent has learned from in its life."""

    @abstractmethod
    def _attach(self, env: VectorEnv) -> None:
        """Take up environments; build what is needed if this is the first time. No step is taken yet.

        Raises:
            InvalidInputError: The algorithm does not fit them.
        """

    @abstractmethod
    def _begin(self, env: VectorEnv, resumption: Resumption | None) -> None:
        """Open the first episodes, or go on in those of an interrupted run."""

    @abstractmethod
    def _learn(self, run: TrainingRun) -> None:
        """Act and learn until `run.target_timesteps`, telling the run of episodes, numbers and boundaries."""

    @abstractmethod
    def _detach(self) -> None:
        """Let go of the environments, which are about to close."""

    def train(
        self,
        training_environments: Any,
        total_timesteps: int,
        *,
        connector: Tracker | None = None,
        callbacks: Sequence[CallbackLike] = (),
        n_envs: int | None = None,
        vectorization: str = "auto",
        checkpoint: CheckpointSchedule | str | Path | None = None,
        progress_bar: bool = True,
    ) -> TrainingSummary:
        """Learn from `total_timesteps` further environment steps.

        A second call goes on: networks, optimisers, step count, replay and normalisation statistics stay. The
        environments start new episodes; to continue an interrupted call in the middle of its episodes, use `resume`.

        Args:
            training_environments: A list of environments, one environment, a registered id, factories, a Gymnasium
                `VectorEnv` or a Stable-Baselines3 `VecEnv`.
            total_timesteps: Environment steps, over all environments. An algorithm that collects rollouts of a fixed
                size may take some more; the summary says how many.
            connector: Where the numbers go.
            callbacks: What watches the run: `Callback`s, or functions of a `Report` (False stops the run).
            n_envs: Number of environments, for an id or a factory.
            vectorization: `"serial"`, `"subprocess"`, or `"auto"`: measured and chosen.
            checkpoint: When and where to save; a path means every 10,000 steps.
            progress_bar: Show a progress bar if the error output is a terminal.

        Returns:
            How the run ended.

        Raises:
            InvalidInputError: An argument does not fit; nothing was started.
            EnvironmentFailure: An environment raised, died, hung, or gave a NaN or infinite number.
            KeyboardInterrupt: Ctrl-C, after the iteration was finished and the checkpoint written.
        """
        if isinstance(total_timesteps, bool) or not isinstance(total_timesteps, int) or total_timesteps <= 0:
            raise InvalidInputError(f"total_timesteps must be a positive whole number, got {total_timesteps!r}.")
        watchers = _watchers(callbacks, connector, checkpoint, progress_bar)
        env = open_environments(training_environments, n_envs=n_envs, vectorization=vectorization)
        return self._conduct(env, watchers, self.timesteps + total_timesteps, None)

    def resume(
        self,
        training_environments: Any = None,
        *,
        connector: Tracker | None = None,
        callbacks: Sequence[CallbackLike] = (),
        vectorization: str = "auto",
        checkpoint: CheckpointSchedule | str | Path | None = None,
        progress_bar: bool = True,
    ) -> TrainingSummary:
        """Finish an interrupted call of `train` as if it had not been interrupted.

        Args:
            training_environments: Environments like those of the interrupted call, as many and made the same way;
                None to make them from their registered id.
            connector: As for `train`.
            callbacks: As for `train`; those of the same classes as in the interrupted call get their memory back.
            vectorization: As for `train`.
            checkpoint: As for `train`.
            progress_bar: As for `train`.

        Raises:
            InvalidInputError: There is nothing to resume, or the environments are not like those of then.
        """
        continuation = self._continuation
        if continuation is None:
            raise InvalidInputError(
                "There is no interrupted run to resume: this agent was never trained, or its last run failed. "
                "Use train(...)."
            )
        watchers = _watchers(callbacks, connector, checkpoint, progress_bar)
        environments = self._environments_to_resume(training_environments, continuation)
        is_single = isinstance(environments, str) or callable(environments)
        env = open_environments(
            environments, n_envs=continuation.n_envs if is_single else None, vectorization=vectorization
        )
        return self._conduct(env, watchers, int(continuation.run["target_timesteps"]), continuation)

    @staticmethod
    def _environments_to_resume(given: Any, continuation: Continuation) -> Any:
        if given is not None:
            return given
        if continuation.environment_id is None:
            raise InvalidInputError(
                "The interrupted run's environments have no registered id; give environments like them to resume."
            )
        return continuation.environment_id

    def _conduct(
        self, env: VectorEnv, watchers: Sequence[Callback], target: int, continuation: Continuation | None
    ) -> TrainingSummary:
        try:
            self._check_fit(env.spec, continuation)
            self._attach(env)
            self.environment_id = env.spec.id
            return self._watch(env, watchers, target, continuation)
        finally:
            self._capture = None
            if self.is_trained:
                self._detach()
            env.close()

    def _watch(
        self, env: VectorEnv, watchers: Sequence[Callback], target: int, continuation: Continuation | None
    ) -> TrainingSummary:
        run = TrainingRun(
            timesteps=self.timesteps,
            target_timesteps=target,
            callbacks=watchers,
            save=self.fill_folder,
            resume_level=lambda: str(env.get_state().level),
        )
        self._continuation = None
        resumption = None
        if continuation is not None:
            run.load_state_dict(continuation.run)
            resumption = _put_back(env, continuation)
        self._begin(env, resumption)
        self._capture = lambda: Continuation.capture(env, run)
        at_boundary = False

        def learn() -> None:
            nonlocal at_boundary
            try:
                self._learn(run)
                at_boundary = True
            except RunStopped:
                at_boundary = True
                raise

        try:
            summary = run.conduct(learn)
        finally:
            if at_boundary:
                self._continuation = self._capture()
        _tell_extra_steps(summary)
        return summary

    def _check_fit(self, spec: EnvSpec, continuation: Continuation | None) -> None:
        """Refuse environments that are not like those the agent was trained in."""
        if self.is_trained:
            check_same_spaces(self.policy.observation_space, self.policy.action_space, spec)
        if continuation is not None and spec.n_envs != continuation.n_envs:
            raise InvalidInputError(
                f"The interrupted run had {continuation.n_envs} environments, {spec.n_envs} were given. Give as many, "
                "or go on with another number by train(...)."
            )

    def _write_continuation(self, folder: Path) -> None:
        """Write what an exact resume needs from outside the agent, if there is a run to resume."""
        continuation = self._capture() if self._capture is not None else self._continuation
        if continuation is not None:
            write_state(folder, CONTINUATION, continuation.to_tree())

    def _read_continuation(self, folder: Path) -> None:
        if (folder / f"{CONTINUATION}.json").exists():
            self._continuation = Continuation.from_tree(read_state(folder, CONTINUATION))


def check_same_spaces(observation_space: Any, action_space: Any, spec: EnvSpec) -> None:
    """Refuse environments with other spaces than the agent's.

    Raises:
        SpaceError: They differ; the message names the field.
    """
    who = "the environments, compared with those the agent was trained in,"
    check_equal(observation_space, spec.observation_space, role="observation", who=who)
    check_equal(action_space, spec.action_space, role="action", who=who)


def _watchers(
    callbacks: Sequence[CallbackLike],
    connector: Tracker | None,
    checkpoint: CheckpointSchedule | str | Path | None,
    progress_bar: bool,
) -> list[Callback]:
    watchers = [as_callback(each) for each in callbacks]
    if connector is not None:
        watchers.append(TrackerCallback(connector))
    if progress_bar and not any(isinstance(each, ProgressBar) for each in watchers):
        watchers.append(ProgressBar())
    schedule = as_checkpoint_schedule(checkpoint)
    return watchers if schedule is None else [*watchers, schedule]


def _put_back(env: VectorEnv, continuation: Continuation) -> Resumption:
    observations = env.set_state(continuation.environments)
    level = continuation.environments.level
    if level < StateLevel.EPISODE_BOUNDARY:
        logger.warning("These environments cannot be put back into the middle of an episode: the resume is %s.", level)
    return Resumption(observations=observations, level=level, random=continuation.random)


def _tell_extra_steps(summary: TrainingSummary) -> None:
    if summary.extra_timesteps:
        logger.info(
            "%d steps were taken where %d were asked for: the algorithm's rollouts have a fixed size.",
            summary.taken_timesteps,
            summary.requested_timesteps,
        )
