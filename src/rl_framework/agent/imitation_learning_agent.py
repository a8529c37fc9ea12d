"""Agents that learn from recorded episodes, some of them with environments to try themselves in."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from rl_framework.agent.continuation import Continuation, Resumption
from rl_framework.agent.learning_agent import (
    CallbackLike,
    LearningAgent,
    check_timesteps,
    environments_to_resume,
    gather_watchers,
)
from rl_framework.callbacks.checkpoint_schedule import CheckpointSchedule
from rl_framework.core.reports import TrainingSummary
from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.data.fit import check_episodes_fit, spaces_of
from rl_framework.envs.source import open_environments
from rl_framework.envs.vector_env import EnvSpec, VectorEnv
from rl_framework.errors import InvalidInputError

if TYPE_CHECKING:
    from rl_framework.connectors.base import Tracker


@dataclass(frozen=True, kw_only=True, slots=True)
class Lessons:
    """What a call of `train` teaches: episodes whose spaces were found to fit.

    Attributes:
        episodes: What is learned from; None for algorithms that need no recordings.
        validation: Episodes kept apart to measure progress with.
        observation_space: Space of one observation.
        action_space: Space of one action.
    """

    episodes: EpisodeSequence | None
    validation: EpisodeSequence | None
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]


class ILAgent(LearningAgent):
    """Base of agents that learn from recorded episodes.

    `train` and `resume` check the episodes against the environments, watch the run and close up afterwards. A
    subclass says what it needs, and fills five blanks: how many steps it has learned from, how it takes up episodes
    and environments, how it begins, how it learns, and how it lets go of them.
    """

    @property
    def needs_episodes(self) -> bool:
        """Whether it learns from recordings only, so that there must be some."""
        return True

    @property
    def needs_environments(self) -> bool:
        """Whether it acts while it learns."""
        return False

    @property
    def needs_rewards(self) -> bool:
        """Whether the recordings must have rewards."""
        return False

    @abstractmethod
    def _attach(self, lessons: Lessons, env: VectorEnv | None) -> None:
        """Take up episodes and environments; build what is needed if this is the first time. No step is taken yet.

        Raises:
            InvalidInputError: The algorithm does not fit them.
        """

    @abstractmethod
    def _begin(self, env: VectorEnv | None, resumption: Resumption | None) -> None:
        """Open the first episodes, or go on in those of an interrupted run."""

    def train(
        self,
        episode_sequence: Sequence[Episode] | None,
        total_timesteps: int,
        *,
        training_environments: Any = None,
        validation_episode_sequence: Sequence[Episode] | None = None,
        connector: Tracker | None = None,
        callbacks: Sequence[CallbackLike] = (),
        checkpoint: CheckpointSchedule | str | Path | None = None,
        n_envs: int | None = None,
        vectorization: str = "auto",
        progress_bar: bool = True,
    ) -> TrainingSummary:
        """Learn from `total_timesteps` further steps.

        A second call goes on: networks, optimisers and counters stay.

        Args:
            episode_sequence: The episodes; None for algorithms that need no recordings.
            total_timesteps: Steps to learn from, counted as the algorithm counts them: recorded transitions for those
                that only read, environment steps for those that act. An algorithm whose rounds have a fixed size may
                take some more; the summary says how many.
            training_environments: Whatever `RLAgent.train` takes, for algorithms that act; to the others they tell
                the spaces, for recordings that do not.
            validation_episode_sequence: Episodes kept apart to measure progress with, by algorithms that do.
            connector: Where the numbers go.
            callbacks: What watches the run: `Callback`s, or functions of a `Report` (False stops the run).
            checkpoint: When and where to save; a path means every 10,000 steps.
            n_envs: Number of environments, for an id or a factory; of games (Unity: players), for a game.
            vectorization: `"serial"`, `"subprocess"`, or `"auto"`: measured and chosen.
            progress_bar: Show a progress bar if the error output is a terminal.

        Returns:
            How the run ended.

        Raises:
            InvalidInputError: An argument does not fit, or something needed is missing; nothing was started.
            SpaceError: Recordings, environments and agent have different spaces; the message names the field.
            EnvironmentFailure: An environment raised, died, hung, or gave a NaN or infinite number.
            KeyboardInterrupt: Ctrl-C, after the round was finished and the checkpoint written.
        """
        check_timesteps(total_timesteps)
        watchers = gather_watchers(callbacks, connector, checkpoint, progress_bar)
        data = self._recordings(episode_sequence, validation_episode_sequence)
        env, spec = self._open(training_environments, n_envs, vectorization)
        return self._conduct(env, self._attaching(*data, spec, env), watchers, self.timesteps + total_timesteps, None)

    def resume(
        self,
        episode_sequence: Sequence[Episode] | None,
        *,
        training_environments: Any = None,
        validation_episode_sequence: Sequence[Episode] | None = None,
        connector: Tracker | None = None,
        callbacks: Sequence[CallbackLike] = (),
        checkpoint: CheckpointSchedule | str | Path | None = None,
        vectorization: str = "auto",
        progress_bar: bool = True,
    ) -> TrainingSummary:
        """Finish an interrupted call of `train` as if it had not been interrupted.

        Args:
            episode_sequence: The same episodes in the same order as in the interrupted call.
            training_environments: Environments like those of the interrupted call, as many and made the same way;
                None to make them from their registered id.
            validation_episode_sequence: The same as in the interrupted call.
            connector: As for `train`.
            callbacks: As for `train`; those of the same classes as in the interrupted call get their memory back.
            checkpoint: As for `train`.
            vectorization: As for `train`.
            progress_bar: As for `train`.

        Raises:
            InvalidInputError: There is nothing to resume, or the environments are not like those of then.
            SpaceError: As for `train`.
        """
        continuation = self._interrupted()
        watchers = gather_watchers(callbacks, connector, checkpoint, progress_bar)
        data = self._recordings(episode_sequence, validation_episode_sequence)
        env = self._reopen(training_environments, continuation, vectorization)
        spec = None if env is None else env.spec
        target = int(continuation.run["target_timesteps"])
        return self._conduct(env, self._attaching(*data, spec, env), watchers, target, continuation)

    def _recordings(
        self, episodes: Sequence[Episode] | None, validation: Sequence[Episode] | None
    ) -> tuple[EpisodeSequence | None, EpisodeSequence | None]:
        """The episodes as sequences of our kind, none of them empty or without what the algorithm needs."""
        if episodes is None and self.needs_episodes:
            raise InvalidInputError(f"{self._name} learns from recorded episodes; give it an episode_sequence.")
        training = None if episodes is None else _as_sequence(episodes, "episode_sequence")
        if training is not None and self.needs_rewards and not training.has_rewards:
            raise InvalidInputError(
                f"{self._name} learns from rewards, and these episodes were recorded without. Record them again with "
                "rewards, or use an algorithm that needs none, such as behavioural cloning."
            )
        return training, None if validation is None else _as_sequence(validation, "validation_episode_sequence")

    def _open(
        self, environments: Any, n_envs: int | None, vectorization: str
    ) -> tuple[VectorEnv | None, EnvSpec | None]:
        """Environments to act in, and what is known of them; those that only tell the spaces are closed again."""
        if environments is None:
            if self.needs_environments:
                raise InvalidInputError(f"{self._name} acts while it learns; give it training_environments.")
            return None, None
        if self.needs_environments:
            env = open_environments(environments, n_envs=n_envs, vectorization=vectorization)
            return env, env.spec
        with closing(open_environments(environments, n_envs=n_envs, vectorization="serial")) as env:
            return None, env.spec

    def _reopen(self, environments: Any, continuation: Continuation, vectorization: str) -> VectorEnv | None:
        if continuation.n_envs == 0:
            return None
        environments, n_envs = environments_to_resume(environments, continuation)
        return open_environments(environments, n_envs=n_envs, vectorization=vectorization)

    def _attaching(
        self,
        episodes: EpisodeSequence | None,
        validation: EpisodeSequence | None,
        spec: EnvSpec | None,
        env: VectorEnv | None,
    ) -> Callable[[], None]:
        def attach() -> None:
            self._attach(self._lessons(episodes, validation, spec), env)
            self.environment_id = self.environment_id if spec is None else spec.id

        return attach

    def _lessons(
        self, episodes: EpisodeSequence | None, validation: EpisodeSequence | None, spec: EnvSpec | None
    ) -> Lessons:
        """Find out the spaces, and hold everything given to them."""
        observation_space, action_space = self._spaces_from(episodes, spec)
        who = "the agent" if spec is None else "the environments"
        for given in (episodes, validation):
            if given is not None:
                check_episodes_fit(given, observation_space, action_space, who=who)
        return Lessons(
            episodes=episodes,
            validation=validation,
            observation_space=observation_space,
            action_space=action_space,
        )

    def _spaces_from(
        self, episodes: EpisodeSequence | None, spec: EnvSpec | None
    ) -> tuple[gym.Space[Any], gym.Space[Any]]:
        """The spaces that environments, the agent itself or else the recordings tell."""
        if spec is not None:
            self._check_fit(spec, None)
            return spec.observation_space, spec.action_space
        if self.is_trained:
            return self.policy.observation_space, self.policy.action_space
        if episodes is None:
            raise InvalidInputError(f"{self._name} was given neither recordings nor environments to learn from.")
        return spaces_of(episodes)

    @property
    def _name(self) -> str:
        """How errors call it."""
        return type(self).__name__


def _as_sequence(episodes: Sequence[Episode], argument: str) -> EpisodeSequence:
    sequence = episodes if isinstance(episodes, EpisodeSequence) else EpisodeSequence.from_episodes(episodes)
    if not len(sequence):
        raise InvalidInputError(f"{argument} has no episodes.")
    return sequence
