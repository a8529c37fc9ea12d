"""Every algorithm of Stable-Baselines3 and sb3-contrib as an agent."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from typing_extensions import override

from rl_framework.agent.base_agent import trained_part
from rl_framework.agent.continuation import Resumption
from rl_framework.agent.reinforcement.stable_baselines import sb3_archive
from rl_framework.agent.reinforcement.stable_baselines.algorithms import is_contrib
from rl_framework.agent.reinforcement.stable_baselines.bridge import RunBridge, make_logger
from rl_framework.agent.reinforcement.stable_baselines.environment import (
    SpacesOnlyVecEnv,
    SpaceTranslation,
    TranslatedVecEnv,
)
from rl_framework.agent.reinforcement.stable_baselines.episodes import open_episodes, reopen_episodes
from rl_framework.agent.reinforcement.stable_baselines.model import ModelPlan, check_masks
from rl_framework.agent.reinforcement.stable_baselines.normalization import Normalization, as_normalization
from rl_framework.agent.reinforcement.stable_baselines.onnx_export import exported_network
from rl_framework.agent.reinforcement.stable_baselines.parameters import (
    check_parameters,
    decode,
    encode,
    unsaved_names,
)
from rl_framework.agent.reinforcement.stable_baselines.policy import StableBaselinesPolicy
from rl_framework.agent.reinforcement.stable_baselines.training_state import (
    load_noise_state,
    load_training_state,
    noise_state,
    training_state,
)
from rl_framework.agent.reinforcement_learning_agent import RLAgent
from rl_framework.callbacks.run import TrainingRun
from rl_framework.checkpoints.manifest import Manifest
from rl_framework.checkpoints.networks import load_network, save_network
from rl_framework.checkpoints.state_tree import read_state, write_state
from rl_framework.connectors.model_card import MODEL_ZIP
from rl_framework.core.references import reference_to, resolve
from rl_framework.core.seeding import capture_random_state, restore_random_state
from rl_framework.core.spaces import space_from_json, space_to_json
from rl_framework.envs.source import open_environments
from rl_framework.envs.vector_env import StateLevel, VectorEnv
from rl_framework.errors import CorruptArchiveError, InvalidInputError
from rl_framework.export.onnx import OnnxNetwork

POLICY_FILE = "policy.safetensors"
TRAINING_STATE = "training_state"


class StableBaselinesAgent(RLAgent):
    """An agent whose engine is an algorithm of Stable-Baselines3 or sb3-contrib.

    Args:
        algorithm_class: A2C, DDPG, DQN, PPO, SAC or TD3; ARS, CrossQ, MaskablePPO, QRDQN, RecurrentPPO, TQC or TRPO;
            or a class derived from one of them.
        algorithm_parameters: What the algorithm's constructor takes, without `env`. Without `"policy"`, the stock
            policy for the observation space is taken.
        normalization: Running normalisation of observations and rewards (`VecNormalize`); True for its defaults.

    Raises:
        InvalidInputError: It is not an algorithm of these libraries, or a parameter is set by this library.
        UnknownOptionError: A parameter is not one of the algorithm's.
    """

    kind: ClassVar[str] = "stable_baselines"
    changeable: ClassVar[tuple[str, ...]] = ("algorithm_parameters",)

    def __init__(
        self,
        algorithm_class: type[BaseAlgorithm] = PPO,
        algorithm_parameters: Mapping[str, Any] | None = None,
        *,
        normalization: bool | Normalization | None = None,
    ) -> None:
        super().__init__()
        if not (isinstance(algorithm_class, type) and issubclass(algorithm_class, BaseAlgorithm)):
            raise InvalidInputError(
                "algorithm_class must be an algorithm class of stable_baselines3 or sb3_contrib, such as PPO, "
                f"got {algorithm_class!r}."
            )
        self.algorithm_class = algorithm_class
        self.algorithm_parameters = dict(algorithm_parameters or {})
        check_parameters(algorithm_class, self.algorithm_parameters)
        self.normalization = as_normalization(normalization)
        self._model: BaseAlgorithm | None = None
        self._spaces: tuple[gym.Space[Any], gym.Space[Any]] | None = None
        self._env: TranslatedVecEnv | None = None

    # What an agent is asked

    @property
    def model(self) -> BaseAlgorithm:
        """The library's own object, for what only it can do.

        Raises:
            NotTrainedError: The agent was never trained.
        """
        return trained_part(self._model, "model")

    @property
    def policy(self) -> StableBaselinesPolicy:
        """What acts."""
        model = self.model
        observation_space, action_space = self._known_spaces()
        return StableBaselinesPolicy(model, self._translation(), observation_space, action_space)

    @property
    def is_trained(self) -> bool:
        """Whether there is a model."""
        return self._model is not None

    @property
    def timesteps(self) -> int:
        """Environment steps that the agent has learned from in its life."""
        return 0 if self._model is None else self._model.num_timesteps

    # Training

    def _attach(self, env: VectorEnv) -> None:
        self._check_parameters_known()
        check_masks(self.algorithm_class, has_action_masks=env.spec.has_action_masks)
        self._spaces = (env.spec.observation_space, env.spec.action_space)
        self._env = TranslatedVecEnv(env, self._translation())
        if self._model is None:
            self._model = self._plan.build(self._env)
        else:
            self._model = self._plan.move(self._model, self._env)

    @override
    def _begin(self, env: VectorEnv, resumption: Resumption | None) -> None:
        model = self.model
        if resumption is None:
            open_episodes(model)
            return
        if resumption.level < StateLevel.EPISODE_BOUNDARY:
            reopen_episodes(model, self._translation().observations(resumption.observations))
        restore_random_state(resumption.random)

    def _learn(self, run: TrainingRun) -> None:
        model, env = self.model, self._env
        if env is None or run.target_timesteps <= model.num_timesteps:
            return
        env.on_episodes = run.record_episodes
        model.set_logger(make_logger(model, run))
        # `learn` resets noise and draws exploration matrices before its first rollout; a run that is resumed there
        # must see what one that went through saw, so both put back what was before.
        noise, random, timesteps = noise_state(model), capture_random_state(), model.num_timesteps

        def restore() -> None:
            load_noise_state(model, noise)
            restore_random_state(random)
            model.num_timesteps = timesteps

        if is_contrib(self.algorithm_class, "ARS"):
            model.num_timesteps = 0  # its schedules run over what `learn` is told, not over the agent's life
        model.learn(
            run.target_timesteps - model.num_timesteps,
            callback=RunBridge(run, restore),
            reset_num_timesteps=False,
        )
        run.at_boundary(model.num_timesteps)

    def _detach(self) -> None:
        if self._env is not None:
            self._model = self._plan.set_aside(self.model, self._env)
            self._env = None

    # Files

    def _manifest(self) -> Manifest:
        observation_space, action_space = self._known_spaces()
        return Manifest(
            kind=self.kind,
            algorithm=reference_to(self.algorithm_class),
            parameters=encode(self.algorithm_parameters),
            options={
                "normalization": None if self.normalization is None else encode(dataclasses.asdict(self.normalization)),
                "n_envs": self.model.n_envs,
            },
            observation_space=space_to_json(observation_space),
            action_space=space_to_json(action_space),
            timesteps=self.timesteps,
            notes={"environment_id": self.environment_id},
        )

    def _write(self, folder: Path) -> None:
        save_network(self.model.policy, folder / POLICY_FILE)
        state_folder = folder / TRAINING_STATE
        state_folder.mkdir()
        write_state(state_folder, "model", training_state(self.model))
        self._write_continuation(state_folder)

    @classmethod
    def _read(cls, folder: Path, manifest: Manifest, trust: Sequence[str], **changes: Any) -> StableBaselinesAgent:
        algorithm_class = resolve(manifest.algorithm, trust=trust)
        parameters = {**decode(manifest.parameters, trust=trust), **changes.get("algorithm_parameters", {})}
        agent = cls(algorithm_class, parameters, normalization=_read_normalization(manifest.options))
        agent._spaces = (_read_space(manifest.observation_space), _read_space(manifest.action_space))
        model = agent._build_without_environments(int(manifest.options["n_envs"]))
        load_network(model.policy, folder / POLICY_FILE)
        load_training_state(model, read_state(folder / TRAINING_STATE, "model"))
        agent._model = model
        agent.environment_id = manifest.notes.get("environment_id")
        agent._read_continuation(folder / TRAINING_STATE)
        return agent

    @override
    def _add_for_others(self, folder: Path) -> None:
        super()._add_for_others(folder)
        self.export_model_zip(folder / MODEL_ZIP)

    @override
    def _onnx_network(self) -> OnnxNetwork:
        return exported_network(self.model, self._translation(), self.policy)

    def export_model_zip(self, path: str | Path) -> Path:
        """Write the model in Stable-Baselines3's own format, for `PPO.load(path)` and its kind.

        That format holds pickles, and neither the replay buffer nor normalisation statistics. This library never
        writes it unless asked to here.

        Raises:
            NotTrainedError: The agent was never trained.
        """
        return sb3_archive.export_model(self.model, Path(path))

    @classmethod
    def from_model_zip(
        cls,
        path: str | Path,
        environment: Any,
        algorithm_class: type[BaseAlgorithm] = PPO,
        algorithm_parameters: Mapping[str, Any] | None = None,
        *,
        normalization: bool | Normalization | None = None,
    ) -> StableBaselinesAgent:
        """Make an agent from a file that `model.save(path)` wrote, without executing anything in it.

        Parameters are read from the readable part of the file's `data`; networks and optimisers from its tensors.

        Args:
            path: The zip file.
            environment: Whatever `train` takes; tells the spaces.
            algorithm_class: Which algorithm wrote it; the file itself does not say.
            algorithm_parameters: Parameters to use instead of those in the file, and those that it hides in pickles.
            normalization: As for the class.

        Raises:
            MissingArchiveError: There is no such file.
            CorruptArchiveError: It is not such a file, or its tensors do not fit the network.
            SpaceError: It says that it was made for other spaces.
            UnsafeArchiveError: It would fill the memory, or names files outside itself. Nothing of it was read.
            InvalidInputError: It hides a parameter of the policy in a pickle.
        """
        given = algorithm_parameters or {}
        found = sb3_archive.read_parameters(Path(path), algorithm_class, given=given)
        agent = cls(algorithm_class, {**found, **given}, normalization=normalization)
        env = open_environments(environment, vectorization="serial")
        agent._spaces = (env.spec.observation_space, env.spec.action_space)
        agent.environment_id = env.spec.id
        env.close()
        translation = agent._translation()
        sb3_archive.check_spaces(Path(path), translation.observation_space, translation.action_space)
        model = agent._build_without_environments(1)
        sb3_archive.load_tensors(model, Path(path))
        agent._model = model
        return agent

    # Parts

    @property
    def _plan(self) -> ModelPlan:
        return ModelPlan(self.algorithm_class, self.algorithm_parameters, self.normalization)

    def _known_spaces(self) -> tuple[gym.Space[Any], gym.Space[Any]]:
        return trained_part(self._spaces, "spaces")

    def _translation(self) -> SpaceTranslation:
        return SpaceTranslation(*self._known_spaces())

    def _build_without_environments(self, n_envs: int) -> BaseAlgorithm:
        translation = self._translation()
        known = {name: value for name, value in self.algorithm_parameters.items() if not unsaved_names({name: value})}
        plan = ModelPlan(self.algorithm_class, known, self.normalization)
        before = capture_random_state()
        try:
            return plan.build(SpacesOnlyVecEnv(n_envs, translation.observation_space, translation.action_space))
        finally:
            restore_random_state(before)

    def _check_parameters_known(self) -> None:
        names = unsaved_names(self.algorithm_parameters)
        if names:
            raise InvalidInputError(
                f"Parameters {names} could not be written down when this agent was saved (a lambda, or an object of "
                "an unknown class). To train it, load it with algorithm_parameters={...} that give them again."
            )


def _read_normalization(options: Mapping[str, Any]) -> Normalization | None:
    found = options["normalization"]
    return None if found is None else Normalization(**decode(found))


def _read_space(data: dict[str, Any] | None) -> gym.Space[Any]:
    if data is None:
        raise CorruptArchiveError("The manifest tells no spaces.")
    return space_from_json(data)
