"""The off-policy learner as an agent: it learns offline from recordings, goes on online, or does both at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import override

from rl_framework.agent.base_agent import trained_part
from rl_framework.agent.continuation import Resumption
from rl_framework.agent.environment_spec import read_spec
from rl_framework.agent.imitation_learning_agent import ILAgent, Lessons
from rl_framework.agent.rule_export import exported_rule
from rl_framework.algorithms.base import make_config, train
from rl_framework.algorithms.detached_env import DetachedEnv
from rl_framework.algorithms.off_policy_acting import RulePolicy
from rl_framework.algorithms.off_policy_config import OffPolicyConfig
from rl_framework.algorithms.offline_off_policy import OfflineOffPolicy
from rl_framework.callbacks.run import TrainingRun
from rl_framework.checkpoints.manifest import Manifest
from rl_framework.checkpoints.state_tree import read_state, write_state
from rl_framework.core.references import reference_to, resolve, with_references, without_references
from rl_framework.core.seeding import restore_random_state
from rl_framework.core.spaces import space_to_json
from rl_framework.core.trees import Tree
from rl_framework.envs.source import open_environments
from rl_framework.envs.vector_env import EnvSpec, StateLevel, VectorEnv
from rl_framework.errors import CorruptArchiveError, InvalidInputError
from rl_framework.export.onnx import OnnxNetwork

TRAINING_STATE = "training_state"


class OffPolicyAgent(ILAgent):
    """An agent that learns from recorded episodes with rewards, and goes on in environments with what it has learned.

    - `train(episodes, total_timesteps)` learns offline, from the recordings alone; rules for that are `td3_bc`,
      `conservative_sac` and `batch_constrained`. A timestep is a recorded transition that is learned from, counted
      each time: `total_timesteps=100_000 * 256` are 100,000 gradient steps with minibatches of 256.
    - `train(None, total_timesteps, training_environments=...)` acts and learns from that, as `NativeAgent(OffPolicy)`
      does. A timestep is a step in an environment.
    - `train(episodes, total_timesteps, training_environments=...)` acts, and learns from minibatches of which a share
      is recorded. A timestep is a step in an environment.

    What was learned before stays, in any order. Recordings are read into memory at the beginning of a run, and are not
    saved with the agent.

    Args:
        algorithm_parameters: Fields of `OffPolicyConfig`.
        recorded_share: Share of recordings in each minibatch while it acts as well.

    Raises:
        UnknownOptionError: A parameter is not a field of the configuration.
        InvalidInputError: A value is out of range.
    """

    kind: ClassVar[str] = "off_policy"
    changeable: ClassVar[tuple[str, ...]] = ("algorithm_parameters", "recorded_share")

    def __init__(self, algorithm_parameters: Mapping[str, Any] | None = None, *, recorded_share: float = 0.5) -> None:
        super().__init__()
        if not isinstance(recorded_share, int | float) or not 0.0 <= recorded_share <= 1.0:
            raise InvalidInputError(f"recorded_share must lie in [0, 1], got {recorded_share!r}.")
        self.config = make_config(OffPolicyConfig, algorithm_parameters or {})
        self.recorded_share = float(recorded_share)
        self._algorithm: OfflineOffPolicy | None = None
        self._spec: EnvSpec | None = None
        self._taught: Lessons | None = None
        self._observations: Tree = None
        self._resumes = False
        self._timesteps = 0
        self._run: TrainingRun | None = None

    @property
    def algorithm(self) -> OfflineOffPolicy:
        """The algorithm itself, for what only it can do.

        Raises:
            NotTrainedError: The agent was never trained.
        """
        return trained_part(self._algorithm, "policy")

    @property
    def policy(self) -> RulePolicy:
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

    @property
    @override
    def _agent_level(self) -> StateLevel:
        """What the algorithm says."""
        return self.algorithm.resume_level

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
        self._move_to(DetachedEnv(self._spec or told) if env is None else env)
        self._taught = lessons

    def _begin(self, env: VectorEnv | None, resumption: Resumption | None) -> None:
        self._resumes = resumption is not None
        try:
            self.algorithm.open_recordings(
                None if self._taught is None else self._taught.episodes,
                share=self.recorded_share,
                acts=env is not None,
                resumes=self._resumes,
            )
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
        self.algorithm.close_recordings()
        self._move_to(DetachedEnv(self._known_spec()))

    def _forget_first_try(self, timesteps: int) -> None:
        """Be untrained still if nothing was learned yet."""
        if timesteps == 0:
            self._algorithm = self._spec = self._observations = self._taught = None

    def _move_to(self, env: VectorEnv) -> None:
        """Build the algorithm over an environment, or none; what it has learned goes along."""
        if self._algorithm is None:
            self._algorithm = OfflineOffPolicy(env, self.config)
        else:
            self._algorithm.move_to(env)
        self._spec = env.spec

    # Files

    def _manifest(self) -> Manifest:
        spec = self._known_spec()
        return Manifest(
            kind=self.kind,
            algorithm=reference_to(OfflineOffPolicy),
            parameters=with_references(dataclasses.asdict(self.config)),
            options={
                "recorded_share": self.recorded_share,
                "n_envs": spec.n_envs,
                "has_action_masks": spec.has_action_masks,
            },
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

    @classmethod
    def _read(cls, folder: Path, manifest: Manifest, trust: Sequence[str], **changes: Any) -> OffPolicyAgent:
        if resolve(manifest.algorithm, trust=trust) is not OfflineOffPolicy:
            raise CorruptArchiveError(f"The manifest names {manifest.algorithm!r} as the off-policy learner.")
        saved = without_references(manifest.parameters, trust=trust)
        agent = cls(
            {**saved, **changes.get("algorithm_parameters", {})},
            recorded_share=changes.get("recorded_share", manifest.options["recorded_share"]),
        )
        agent._move_to(DetachedEnv(read_spec(manifest)))
        agent.algorithm.load_state_dict(read_state(folder / TRAINING_STATE, "algorithm"))
        agent._timesteps = manifest.timesteps
        agent.environment_id = manifest.notes.get("environment_id")
        agent._read_continuation(folder / TRAINING_STATE)
        return agent

    @override
    def _onnx_network(self) -> OnnxNetwork:
        return exported_rule(self.policy)

    def _known_spec(self) -> EnvSpec:
        return trained_part(self._spec, "spaces")
