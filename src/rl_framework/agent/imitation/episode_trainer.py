"""The episode trainer as an agent: it learns offline from recordings, goes on online, or does both at once."""

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
from rl_framework.agent.network_export import exported_network
from rl_framework.algorithms.base import make_config, train
from rl_framework.algorithms.detached_env import DetachedEnv
from rl_framework.algorithms.offline_vtrace_awr import OfflineVTraceAWR
from rl_framework.algorithms.vtrace_awr_config import VTraceAWRConfig
from rl_framework.callbacks.run import TrainingRun
from rl_framework.checkpoints.manifest import Manifest
from rl_framework.checkpoints.state_tree import read_state, write_state
from rl_framework.core.policy import Policy
from rl_framework.core.references import reference_to, resolve, with_references, without_references
from rl_framework.core.seeding import restore_random_state
from rl_framework.core.spaces import space_to_json
from rl_framework.core.trees import Tree
from rl_framework.envs.masks import mask_width
from rl_framework.envs.source import open_environments
from rl_framework.envs.vector_env import EnvSpec, VectorEnv
from rl_framework.errors import CorruptArchiveError, InvalidInputError
from rl_framework.export.onnx import OnnxNetwork
from rl_framework.nn.network_policy import NetworkPolicy

TRAINING_STATE = "training_state"
RECORDED_TIMESTEPS = 10_000
OFFLINE_PARAMETERS: Mapping[str, Any] = {"entropy_coefficient": 0.0}
"""What is different while it learns from recordings alone: there is nothing to explore."""
FIXED = ("network", "model", "model_parameters", "value_hidden_sizes", "device", "seed")


class EpisodeTrainerAgent(ILAgent):
    """An agent that learns from recorded episodes with rewards, and goes on in environments with what it has learned.

    - `train(episodes, total_timesteps)` learns offline, from the recordings alone. A timestep is a recorded transition
      that the policy learns from, counted each time: `total_timesteps=50 * episodes.n_transitions` goes through all
      of them fifty times.
    - `train(None, total_timesteps, training_environments=...)` acts and learns from that, as `NativeAgent(VTraceAWR)`
      does. A timestep is a step in an environment.
    - `train(episodes, total_timesteps, training_environments=...)` acts, and learns from that and from the recordings
      together. A timestep is a step in an environment.

    What was learned before stays, in any order. Recordings do not tell how likely their actions were: each counts as
    if the present policy had chosen it, so that values are those of whoever was recorded, and the policy learns those
    of their actions that did better than expected. They are read when their turn comes, and may be larger than memory.
    Schedules follow the share of `timesteps`, over the agent's whole life, that is done.

    Args:
        algorithm_parameters: Fields of `VTraceAWRConfig`.
        offline_parameters: Those of them that are different while it learns from recordings alone. Unless told here
            or in `algorithm_parameters`, that is an `entropy_coefficient` of 0.
        recorded_timesteps: Most recorded transitions that an update learns from; if there are more, updates take
            turns.

    Raises:
        UnknownOptionError: A parameter is not a field of the configuration.
        InvalidInputError: A value is out of range, or one that must be the same offline and online differs.
    """

    kind: ClassVar[str] = "episode_trainer"
    changeable: ClassVar[tuple[str, ...]] = ("algorithm_parameters", "offline_parameters", "recorded_timesteps")

    def __init__(
        self,
        algorithm_parameters: Mapping[str, Any] | None = None,
        *,
        offline_parameters: Mapping[str, Any] | None = None,
        recorded_timesteps: int = RECORDED_TIMESTEPS,
    ) -> None:
        super().__init__()
        chosen, offline = dict(algorithm_parameters or {}), dict(offline_parameters or {})
        _check_offline(offline, recorded_timesteps)
        self.offline_parameters = {**_left_out(OFFLINE_PARAMETERS, chosen), **offline}
        self.recorded_timesteps = recorded_timesteps
        self.config = make_config(VTraceAWRConfig, chosen)
        self.offline_config = make_config(VTraceAWRConfig, {**chosen, **self.offline_parameters})
        self._algorithm: OfflineVTraceAWR | None = None
        self._spec: EnvSpec | None = None
        self._taught: Lessons | None = None
        self._observations: Tree = None
        self._resumes = False
        self._timesteps = 0
        self._run: TrainingRun | None = None

    @property
    def algorithm(self) -> OfflineVTraceAWR:
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
        if env is None:
            told = EnvSpec(n_envs=1, observation_space=lessons.observation_space, action_space=lessons.action_space)
            self._move_to(DetachedEnv(self._spec or told), self.offline_config)
        else:
            self._move_to(env, self.config)
        self._taught = lessons

    def _begin(self, env: VectorEnv | None, resumption: Resumption | None) -> None:
        self._resumes = resumption is not None
        try:
            self.algorithm.open_recordings(
                None if self._taught is None else self._taught.episodes,
                limit=self.recorded_timesteps,
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
        self._move_to(DetachedEnv(self._known_spec()), self.config)

    def _forget_first_try(self, timesteps: int) -> None:
        """Be untrained still if nothing was learned yet."""
        if timesteps == 0:
            self._algorithm = self._spec = self._observations = self._taught = None

    def _move_to(self, env: VectorEnv, config: VTraceAWRConfig) -> None:
        """Build the algorithm over an environment, or none; what it has learned goes along."""
        learned = None if self._algorithm is None else self._algorithm.state_dict()
        algorithm = OfflineVTraceAWR(env, config)
        if learned is not None:
            algorithm.load_state_dict(learned)
        self._algorithm, self._spec = algorithm, env.spec

    # Files

    def _manifest(self) -> Manifest:
        spec, offline = self._known_spec(), dataclasses.asdict(self.offline_config)
        return Manifest(
            kind=self.kind,
            algorithm=reference_to(OfflineVTraceAWR),
            parameters=with_references(dataclasses.asdict(self.config)),
            options={
                "offline_parameters": with_references({name: offline[name] for name in self.offline_parameters}),
                "recorded_timesteps": self.recorded_timesteps,
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
    def _read(cls, folder: Path, manifest: Manifest, trust: Sequence[str], **changes: Any) -> EpisodeTrainerAgent:
        if resolve(manifest.algorithm, trust=trust) is not OfflineVTraceAWR:
            raise CorruptArchiveError(f"The manifest names {manifest.algorithm!r} as the episode trainer.")
        options, chosen = manifest.options, dict(changes.get("algorithm_parameters", {}))
        offline = _left_out(without_references(options["offline_parameters"], trust=trust), chosen)
        agent = cls(
            {**without_references(manifest.parameters, trust=trust), **chosen},
            offline_parameters={**offline, **changes.get("offline_parameters", {})},
            recorded_timesteps=changes.get("recorded_timesteps", options["recorded_timesteps"]),
        )
        agent._move_to(DetachedEnv(read_spec(manifest)), agent.config)
        agent.algorithm.load_state_dict(read_state(folder / TRAINING_STATE, "algorithm"))
        agent._timesteps = manifest.timesteps
        agent.environment_id = manifest.notes.get("environment_id")
        agent._read_continuation(folder / TRAINING_STATE)
        return agent

    @override
    def _onnx_network(self) -> OnnxNetwork:
        policy, spec = self.policy, self._known_spec()
        if not isinstance(policy, NetworkPolicy):
            return super()._onnx_network()
        return exported_network(policy, n_masked=mask_width(spec.action_space) if spec.has_action_masks else None)

    def _known_spec(self) -> EnvSpec:
        return trained_part(self._spec, "spaces")


def _check_offline(parameters: Mapping[str, Any], recorded_timesteps: Any) -> None:
    for name in FIXED:
        if name in parameters:
            raise InvalidInputError(
                f"{name} is the same offline and online, and cannot stand in offline_parameters. Give it in "
                "algorithm_parameters."
            )
    if type(recorded_timesteps) is not int or recorded_timesteps < 1:
        raise InvalidInputError(f"recorded_timesteps must be a whole number from 1, got {recorded_timesteps!r}.")


def _left_out(defaults: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """What somebody has not chosen."""
    return {name: value for name, value in defaults.items() if name not in chosen}
