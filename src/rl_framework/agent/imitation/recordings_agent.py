"""What agents share that learn from recordings, in environments, or from both, and are saved with all they know."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from typing_extensions import override

from rl_framework.agent.algorithm_agent import AlgorithmAgent
from rl_framework.agent.continuation import Resumption
from rl_framework.agent.imitation_learning_agent import ILAgent, Lessons
from rl_framework.algorithms.base import Algorithm
from rl_framework.algorithms.detached_env import DetachedEnv
from rl_framework.callbacks.run import TrainingRun
from rl_framework.core.seeding import restore_random_state
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.envs.source import open_environments
from rl_framework.envs.vector_env import EnvSpec, VectorEnv
from rl_framework.errors import InvalidInputError


class RecordingsAlgorithm(Algorithm, Protocol):
    """An algorithm that learns from recordings, from what it does itself, or from both.

    Attributes:
        has_ever_acted: Whether it has taken a step in environments.
    """

    has_ever_acted: bool


Learner = TypeVar("Learner", bound=RecordingsAlgorithm)


class RecordingsAgent(AlgorithmAgent[Learner], ILAgent, Generic[Learner]):
    """Base of agents over such an algorithm; a subclass says how it is made, and how recordings are handed to it.

    Its `config` has a `seed`.

    Attributes:
        learner_class: The algorithm, as manifests name it.
    """

    learner_class: ClassVar[type[Any]]

    def __init__(self) -> None:
        super().__init__()
        self._taught: Lessons | None = None

    @property
    @override
    def needs_episodes(self) -> bool:
        """Whether there must be recordings."""
        return False

    @property
    @override
    def needs_rewards(self) -> bool:
        """Whether the recordings must have rewards."""
        return True

    # What a subclass says

    @abstractmethod
    def _move_to(self, env: VectorEnv, *, acts: bool = True) -> None:
        """Build the algorithm over an environment, or none; what it has learned goes along."""

    @abstractmethod
    def _open_recordings(self, episodes: EpisodeSequence | None, *, acts: bool) -> None:
        """Hand the algorithm what it learns from beside what it does."""

    # Training

    def _algorithm_class(self) -> type[Any]:
        return self.learner_class

    @override
    def _open(
        self, environments: Any, n_envs: int | None, vectorization: str
    ) -> tuple[VectorEnv | None, EnvSpec | None]:
        """Environments to act in, if there are any."""
        if environments is None:
            return None, None
        env = open_environments(environments, n_envs=n_envs, vectorization=vectorization)
        return env, env.spec

    def _attach(self, lessons: Lessons, env: VectorEnv | None) -> None:
        if lessons.validation is not None:
            raise InvalidInputError(f"{self._name} measures nothing on a validation_episode_sequence; leave it out.")
        if env is None and lessons.episodes is None:
            raise InvalidInputError(f"{self._name} was given neither recordings nor environments to learn from.")
        told = EnvSpec(n_envs=1, observation_space=lessons.observation_space, action_space=lessons.action_space)
        self._move_to(DetachedEnv(self._spec or told) if env is None else env, acts=env is not None)
        self._taught = lessons

    def _begin(self, env: VectorEnv | None, resumption: Resumption | None) -> None:
        self._resumes = resumption is not None
        try:
            self._open_recordings(None if self._taught is None else self._taught.episodes, acts=env is not None)
        except Exception:
            self._forget_first_try(self.timesteps)
            raise
        if resumption is not None:
            self._observations = resumption.observations
            restore_random_state(resumption.random)
        elif env is not None:
            self._observations = env.reset(seed=None if self.algorithm.has_ever_acted else self.config.seed)

    @override
    def _learn(self, run: TrainingRun) -> None:
        try:
            super()._learn(run)
        except Exception:
            self._forget_first_try(run.timesteps)
            raise

    def _detach(self) -> None:
        self._observations = self._taught = None
        self._move_to(DetachedEnv(self._known_spec()))

    def _forget_first_try(self, timesteps: int) -> None:
        """Be untrained still if nothing was learned yet."""
        if timesteps == 0:
            self._algorithm = self._spec = self._observations = self._taught = None
