"""What learning from environments and learning from recordings share: one run, watched, saved and finished later."""

from __future__ import annotations

import json
import logging
import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from rl_framework.agent.base_agent import Agent
from rl_framework.agent.continuation import Continuation, Resumption
from rl_framework.callbacks.base import Callback
from rl_framework.callbacks.checkpoint_schedule import CheckpointSchedule, as_checkpoint_schedule
from rl_framework.callbacks.function import as_callback
from rl_framework.callbacks.history_keeper import HistoryKeeper
from rl_framework.callbacks.progress_bar import ProgressBar
from rl_framework.callbacks.run import RunStopped, TrainingRun
from rl_framework.callbacks.tracking import TrackerCallback
from rl_framework.connectors.model_card import CURVE_FILE
from rl_framework.core.reports import Report, TrainingSummary
from rl_framework.core.spaces import check_equal
from rl_framework.core.training_history import HISTORY_FILE, TrainingHistory
from rl_framework.envs.source import EnvironmentSource
from rl_framework.envs.vector_env import EnvSpec, ReportsStatistics, StateLevel, VectorEnv
from rl_framework.errors import InvalidInputError, MissingExtraError
from rl_framework.export.learning_curve import draw_learning_curve

if TYPE_CHECKING:
    from rl_framework.connectors.base import Tracker

logger = logging.getLogger(__name__)

CallbackLike = Callback | Callable[[Report], Any]


class LearningAgent(Agent):
    """Base of all agents that learn.

    It conducts a run: callbacks, checkpoints, Ctrl-C, exact continuation. A subclass says how many steps it has
    learned from, how a run begins, how it learns, and how it lets go of environments.

    Attributes:
        environment_id: Registered id of the environments that it was last trained in, None if there was none.
    """

    def __init__(self) -> None:
        self.environment_id: str | None = None
        self._history = HistoryKeeper(TrainingHistory())
        self._continuation: Continuation | None = None
        self._capture: Callable[[], Continuation] | None = None

    @property
    def history(self) -> TrainingHistory:
        """How it was trained, call by call, and its learning curve."""
        return self._history.history

    @property
    @abstractmethod
    def timesteps(self) -> int:
        """Steps that the agent has learned from in its life, counted as its algorithm counts them."""

    @abstractmethod
    def _begin(self, env: Any, resumption: Resumption | None) -> None:
        """Open the first episodes, or go on in those of an interrupted run.

        Args:
            env: The `VectorEnv`, None where a run needs no environments.
            resumption: How a resumed run begins, None for a fresh one.
        """

    @abstractmethod
    def _learn(self, run: TrainingRun) -> None:
        """Learn until `run.target_timesteps`, telling the run of episodes, numbers and boundaries."""

    @abstractmethod
    def _detach(self) -> None:
        """Let go of the environments, which are about to close, and of whatever serves one run only."""

    @property
    def _agent_level(self) -> StateLevel:
        """How exactly the agent itself goes on from what it writes, whatever the environments do."""
        return StateLevel.EXACT

    def _conduct(
        self,
        env: VectorEnv | None,
        attach: Callable[[], None],
        watchers: Sequence[Callback],
        target: int,
        continuation: Continuation | None,
    ) -> TrainingSummary:
        """Take up environments by `attach`, learn until `target` steps, and let go of the environments."""
        try:
            self._check_fit(None if env is None else env.spec, continuation)
            attach()
            self.environment_id = self.environment_id if env is None else env.spec.id
            return self._watch(env, watchers, target, continuation)
        finally:
            self._capture = None
            if self.is_trained:
                self._detach()
            if env is not None:
                env.close()

    def _watch(
        self, env: VectorEnv | None, watchers: Sequence[Callback], target: int, continuation: Continuation | None
    ) -> TrainingSummary:
        spec = None if env is None else env.spec
        self._history = HistoryKeeper(
            self.history, n_envs=spec.n_envs if spec else 0, environment_id=self.environment_id
        )
        run = TrainingRun(
            timesteps=self.timesteps,
            target_timesteps=target,
            callbacks=[*watchers, self._history],
            save=self.fill_folder,
            resume_level=lambda: str(
                self._agent_level if env is None else min(env.get_state().level, self._agent_level)
            ),
            statistics=env.drain_statistics if isinstance(env, ReportsStatistics) else dict,
        )
        self._continuation = None
        resumption = None
        if continuation is not None:
            run.load_state_dict(continuation.run)
            resumption = continuation.put_back(env)
        self._begin(env, resumption)
        self._capture = lambda: Continuation.capture(env, run, self._agent_level)
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
            at_boundary = True  # Also where it was stopped before it learned anything.
        finally:
            if at_boundary:
                self._continuation = self._capture()
        _tell_extra_steps(summary)
        return summary

    def _check_fit(self, spec: EnvSpec | None, continuation: Continuation | None) -> None:
        """Refuse environments that are not like those the agent was trained in."""
        if self.is_trained and spec is not None:
            check_same_spaces(self.policy.observation_space, self.policy.action_space, spec)
        n_envs = 0 if spec is None else spec.n_envs
        if continuation is not None and n_envs != continuation.n_envs:
            raise InvalidInputError(
                f"The interrupted run had {continuation.n_envs} environments, {n_envs} were given. Give as many, "
                "made like those of then, or go on with another number by train(...)."
            )

    def _interrupted(self) -> Continuation:
        """What the last call of `train` left to be resumed.

        Raises:
            InvalidInputError: Nothing.
        """
        if self._continuation is None:
            raise InvalidInputError(
                "There is no interrupted run to resume: this agent was never trained, or its last run failed. "
                "Use train(...)."
            )
        return self._continuation

    @override
    def _write_companions(self, folder: Path) -> None:
        (folder / HISTORY_FILE).write_text(json.dumps(self.history.to_json(), indent=2) + "\n")

    @override
    def _read_companions(self, folder: Path) -> None:
        file = folder / HISTORY_FILE
        if file.exists():
            self._history = HistoryKeeper(TrainingHistory.from_json(json.loads(file.read_text())))

    @override
    def _add_for_others(self, folder: Path) -> None:
        try:
            draw_learning_curve(self.history, folder / CURVE_FILE)
        except MissingExtraError as error:
            warnings.warn(f"Uploading without a picture of the learning curve: {error}", stacklevel=3)

    def _write_continuation(self, folder: Path) -> None:
        """Write what an exact resume needs from outside the agent, if there is a run to resume."""
        continuation = self._capture() if self._capture is not None else self._continuation
        if continuation is not None:
            continuation.write(folder)

    def _read_continuation(self, folder: Path) -> None:
        self._continuation = Continuation.read(folder)


def check_timesteps(total_timesteps: Any) -> None:
    """Refuse a number of steps that is not a positive whole number.

    Raises:
        InvalidInputError: It is not.
    """
    if isinstance(total_timesteps, bool) or not isinstance(total_timesteps, int) or total_timesteps <= 0:
        raise InvalidInputError(f"total_timesteps must be a positive whole number, got {total_timesteps!r}.")


def check_same_spaces(observation_space: Any, action_space: Any, spec: EnvSpec) -> None:
    """Refuse environments with other spaces than the agent's.

    Raises:
        SpaceError: They differ; the message names the field.
    """
    who = "the environments, compared with those the agent was trained in,"
    check_equal(observation_space, spec.observation_space, role="observation", who=who)
    check_equal(action_space, spec.action_space, role="action", who=who)


def gather_watchers(
    callbacks: Sequence[CallbackLike],
    connector: Tracker | None,
    checkpoint: CheckpointSchedule | str | Path | None,
    progress_bar: bool,
) -> list[Callback]:
    """All who watch a run, as callbacks."""
    watchers = [as_callback(each) for each in callbacks]
    if connector is not None:
        watchers.append(TrackerCallback(connector))
    if progress_bar and not any(isinstance(each, ProgressBar) for each in watchers):
        watchers.append(ProgressBar())
    schedule = as_checkpoint_schedule(checkpoint)
    return watchers if schedule is None else [*watchers, schedule]


def environments_to_resume(given: Any, continuation: Continuation) -> tuple[Any, int | None]:
    """Environments for a resumed run, and how many to make of them if they are but one recipe.

    Raises:
        InvalidInputError: None were given, and those of then have no registered id.
    """
    environments = continuation.environment_id if given is None else given
    if environments is None:
        raise InvalidInputError(
            "The interrupted run's environments have no registered id; give environments like them to resume."
        )
    is_recipe = isinstance(environments, (str, EnvironmentSource)) or callable(environments)
    n_envs = continuation.n_envs if continuation.n_games is None else continuation.n_games
    return environments, n_envs if is_recipe else None


def _tell_extra_steps(summary: TrainingSummary) -> None:
    if summary.extra_timesteps:
        logger.info(
            "%d steps were taken where %d were asked for: the algorithm's rollouts or batches have a fixed size.",
            summary.taken_timesteps,
            summary.requested_timesteps,
        )
