"""Agents that learn by acting: one way to train and to resume, whatever the engine."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_framework.agent.continuation import Resumption
from rl_framework.agent.learning_agent import (
    CallbackLike,
    LearningAgent,
    check_timesteps,
    environments_to_resume,
    gather_watchers,
)
from rl_framework.callbacks.checkpoint_schedule import CheckpointSchedule
from rl_framework.core.reports import TrainingSummary
from rl_framework.envs.source import open_environments
from rl_framework.envs.vector_env import VectorEnv

if TYPE_CHECKING:
    from rl_framework.connectors.base import Tracker


class RLAgent(LearningAgent):
    """Base of agents that learn by acting.

    `train` and `resume` open the environments, watch the run and close up afterwards. A subclass with an engine of
    its own fills five blanks: how many steps it has learned from, how it takes up environments, how it begins, how it
    learns, and how it lets go of them.
    """

    @abstractmethod
    def _attach(self, env: VectorEnv) -> None:
        """Take up environments; build what is needed if this is the first time. No step is taken yet.

        Raises:
            InvalidInputError: The algorithm does not fit them.
        """

    @abstractmethod
    def _begin(self, env: VectorEnv, resumption: Resumption | None) -> None:
        """Open the first episodes, or go on in those of an interrupted run."""

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
                `VectorEnv`, a Stable-Baselines3 `VecEnv`, or a game: of PettingZoo, or of Unity. In a game of several
                agents, each agent is a row, and each row's step counts.
            total_timesteps: Environment steps, over all environments. An algorithm that collects rollouts of a fixed
                size may take some more; the summary says how many.
            connector: Where the numbers go.
            callbacks: What watches the run: `Callback`s, or functions of a `Report` (False stops the run).
            n_envs: Number of environments, for an id or a factory; of games (Unity: players), for a game.
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
        check_timesteps(total_timesteps)
        watchers = gather_watchers(callbacks, connector, checkpoint, progress_bar)
        env = open_environments(training_environments, n_envs=n_envs, vectorization=vectorization)
        return self._conduct(env, lambda: self._attach(env), watchers, self.timesteps + total_timesteps, None)

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
        continuation = self._interrupted()
        watchers = gather_watchers(callbacks, connector, checkpoint, progress_bar)
        environments, n_envs = environments_to_resume(training_environments, continuation)
        env = open_environments(environments, n_envs=n_envs, vectorization=vectorization)
        target = int(continuation.run["target_timesteps"])
        return self._conduct(env, lambda: self._attach(env), watchers, target, continuation)
