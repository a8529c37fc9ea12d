"""What agents share whose engine follows the `Algorithm` protocol, and is saved with all it knows."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from pathlib import Path
from typing import Any, Generic, TypeVar

from typing_extensions import Self

from rl_framework.agent.base_agent import trained_part
from rl_framework.agent.environment_spec import read_spec
from rl_framework.agent.learning_agent import LearningAgent
from rl_framework.algorithms.base import Algorithm, train
from rl_framework.algorithms.detached_env import DetachedEnv
from rl_framework.callbacks.run import TrainingRun
from rl_framework.checkpoints.manifest import Manifest
from rl_framework.checkpoints.state_tree import read_state, write_state
from rl_framework.core.policy import Policy
from rl_framework.core.references import reference_to, with_references
from rl_framework.core.spaces import space_to_json
from rl_framework.core.trees import Tree
from rl_framework.envs.vector_env import EnvSpec, VectorEnv

TRAINING_STATE = "training_state"

Learner = TypeVar("Learner", bound=Algorithm)


class AlgorithmAgent(LearningAgent, Generic[Learner]):
    """Base of agents over an algorithm; a subclass says which, how it takes up environments, and how runs begin.

    Its constructor sets `config`, a dataclass, after it has called this one.

    Attributes:
        config: Hyper-parameters.
    """

    config: Any

    def __init__(self) -> None:
        super().__init__()
        self._algorithm: Learner | None = None
        self._spec: EnvSpec | None = None
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
        """Steps that the agent has learned from in its life: those in environments, or recorded ones."""
        return self._timesteps if self._run is None else self._run.timesteps

    @abstractmethod
    def _algorithm_class(self) -> type[Any]:
        """The algorithm, as the manifest names it."""

    @abstractmethod
    def _move_to(self, env: VectorEnv) -> None:
        """Build the algorithm over an environment; what it has learned goes along."""

    def _options(self) -> dict[str, Any]:
        """The agent's own options, for the manifest."""
        return {}

    def _learn(self, run: TrainingRun) -> None:
        self._run = run
        try:
            train(self.algorithm, run, self._observations, resumes=self._resumes)
        finally:
            self._timesteps, self._run = run.timesteps, None

    def _known_spec(self) -> EnvSpec:
        return trained_part(self._spec, "spaces")

    # Files

    def _manifest(self) -> Manifest:
        spec = self._known_spec()
        return Manifest(
            kind=self.kind,
            algorithm=reference_to(self._algorithm_class()),
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
