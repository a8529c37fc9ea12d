"""What agents share that learn from recordings, in environments, or from both, and are saved with all they know."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from typing_extensions import Self, override

from rl_framework.agent.base_agent import trained_part
from rl_framework.agent.continuation import Resumption
from rl_framework.agent.environment_spec import read_spec
from rl_framework.agent.imitation_learning_agent import ILAgent, Lessons
from rl_framework.algorithms.base import Algorithm, train
from rl_framework.algorithms.detached_env import DetachedEnv
from rl_framework.callbacks.run import TrainingRun
from rl_framework.checkpoints.manifest import Manifest
from rl_framework.checkpoints.state_tree import read_state, write_state
from rl_framework.core.policy import Policy
from rl_framework.core.references import reference_to, with_references
from rl_framework.core.seeding import restore_random_state
from rl_framework.core.spaces import space_to_json
from rl_framework.core.trees import Tree
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.envs.source import open_environments
from rl_framework.envs.vector_env import EnvSpec, VectorEnv
from rl_framework.errors import InvalidInputError

TRAINING_STATE = "training_state"


class RecordingsAlgorithm(Algorithm, Protocol):
    """An algorithm that learns from recordings, from what it does itself, or from both.

    Attributes:
        has_ever_acted: Whether it has taken a step in environments.
    """

    has_ever_acted: bool


Learner = TypeVar("Learner", bound=RecordingsAlgorithm)


class RecordingsAgent(ILAgent, Generic[Learner]):
    """Base of agents over such an algorithm; a subclass says how it is made, and how recordings are handed to it.

    Its constructor sets `config`, a dataclass with a `seed`, after it has called this one.

    Attributes:
        config: Hyper-parameters.
        learner_class: The algorithm, as manifests name it.
    """

    config: Any
    learner_class: ClassVar[type[Any]]

    def __init__(self) -> None:
        super().__init__()
        self._algorithm: Learner | None = None
        self._spec: EnvSpec | None = None
        self._taught: Lessons | None = None
        self._observations: Tree = None
        self._resumes = False
        self._timesteps = 0
        self._run: TrainingRun | None = None

    @property
    def algorithm(self) -> Learner:
        """The algorithm itself, for what only it can do.

        Raises:
            NotTrainedError: The agent was never trained.
        """
        return trained_part(self._algorithm, "policy")

    @property
    def policy(self) -> Policy:
        """What acts."""
        return self.algorithm.policy

    @property
    def is_trained(self) -> bool:
        """Whether there is a policy."""
        return self._algorithm is not None

    @property
    def timesteps(self) -> int:
        """Steps that the agent has learned from in its life: recorded ones offline, those in environments online."""
        return self._timesteps if self._run is None else self._run.timesteps

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

    @abstractmethod
    def _options(self) -> dict[str, Any]:
        """The agent's own options, for the manifest."""

    # Training

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

    def _learn(self, run: TrainingRun) -> None:
        self._run = run
        try:
            train(self.algorithm, run, self._observations, resumes=self._resumes)
        except Exception:
            self._forget_first_try(run.timesteps)
            raise
        finally:
            self._timesteps, self._run = run.timesteps, None

    def _detach(self) -> None:
        self._observations = self._taught = None
        self._move_to(DetachedEnv(self._known_spec()))

    def _forget_first_try(self, timesteps: int) -> None:
        """Be untrained still if nothing was learned yet."""
        if timesteps == 0:
            self._algorithm = self._spec = self._observations = self._taught = None

    # Files

    def _manifest(self) -> Manifest:
        spec = self._known_spec()
        return Manifest(
            kind=self.kind,
            algorithm=reference_to(self.learner_class),
            parameters=with_references(dataclasses.asdict(self.config)),
            options={**self._options(), "n_envs": spec.n_envs, "has_action_masks": spec.has_action_masks},
            observation_space=space_to_json(spec.observation_space),
            action_space=space_to_json(spec.action_space),
            timesteps=self.timesteps,
            notes={"environment_id": self.environment_id},
        )

    def _write(self, folder: Path) -> None:
        state_folder = folder / TRAINING_STATE
        state_folder.mkdir()
        write_state(state_folder, "algorithm", self.algorithm.state_dict())
        self._write_continuation(state_folder)

    def _restored(self, folder: Path, manifest: Manifest) -> Self:
        """This agent, new and with its settings, with what the one that was saved has learned."""
        self._move_to(DetachedEnv(read_spec(manifest)))
        self.algorithm.load_state_dict(read_state(folder / TRAINING_STATE, "algorithm"))
        self._timesteps = manifest.timesteps
        self.environment_id = manifest.notes.get("environment_id")
        self._read_continuation(folder / TRAINING_STATE)
        return self

    def _known_spec(self) -> EnvSpec:
        return trained_part(self._spec, "spaces")
