"""This library's own behavioural cloning as an agent."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import torch
from typing_extensions import override

from rl_framework.agent.base_agent import trained_part
from rl_framework.agent.continuation import Resumption
from rl_framework.agent.imitation_learning_agent import ILAgent, Lessons
from rl_framework.agent.network_export import exported_network
from rl_framework.algorithms.base import make_config
from rl_framework.algorithms.behavioural_cloning import BehaviouralCloning
from rl_framework.callbacks.run import RunStopped, TrainingRun
from rl_framework.checkpoints.manifest import Manifest
from rl_framework.checkpoints.networks import load_network, save_network
from rl_framework.checkpoints.state_tree import read_state, write_state
from rl_framework.core.references import reference_to, resolve
from rl_framework.core.seeding import restore_random_state
from rl_framework.core.spaces import space_from_json, space_to_json
from rl_framework.envs.vector_env import VectorEnv
from rl_framework.errors import CorruptArchiveError, InvalidInputError
from rl_framework.export.onnx import OnnxNetwork
from rl_framework.nn.encoders import holds_pictures
from rl_framework.nn.network_policy import NetworkPolicy
from rl_framework.nn.policy_network import PolicyNetworkConfig

POLICY_FILE = "policy.safetensors"
TRAINING_STATE = "training_state"
AUTO = "auto"


class BehaviouralCloningAgent(ILAgent):
    """An agent that learns to do what was done in recorded episodes, without environments.

    A timestep is a transition learned from. One epoch, a pass through all of them, takes
    `episode_sequence.n_transitions` (less what is set apart for validation); so ten epochs are
    `total_timesteps=10 * episode_sequence.n_transitions`. The last batch of a run is a whole one and may go beyond
    `total_timesteps`; the summary says by how much.

    Args:
        algorithm_parameters: Fields of `BehaviouralCloningConfig`.
        network_parameters: Fields of `PolicyNetworkConfig`.
        device: Where it learns and acts: a name that torch knows, such as `"cpu"` or `"cuda"`; or `"auto"`, a GPU if
            there is one and observations hold pictures, else the CPU, which is faster for small networks.

    Raises:
        UnknownOptionError: A parameter is not a field of its configuration.
        InvalidInputError: A value is out of range, or torch knows no such device.
    """

    kind: ClassVar[str] = "behavioural_cloning"
    changeable: ClassVar[tuple[str, ...]] = ("algorithm_parameters", "device")

    def __init__(
        self,
        algorithm_parameters: Mapping[str, Any] | None = None,
        *,
        network_parameters: Mapping[str, Any] | None = None,
        device: str = AUTO,
    ) -> None:
        super().__init__()
        self.config = make_config(BehaviouralCloning.Config, algorithm_parameters or {})
        self.network_config = make_config(PolicyNetworkConfig, network_parameters or {})
        self.device = _checked_device(device)
        self._algorithm: BehaviouralCloning | None = None
        self._taught: Lessons | None = None

    @property
    def algorithm(self) -> BehaviouralCloning:
        """The algorithm itself, for what only it can do.

        Raises:
            NotTrainedError: The agent was never trained.
        """
        return trained_part(self._algorithm, "policy")

    @property
    def policy(self) -> NetworkPolicy:
        """What acts."""
        return self.algorithm.policy

    @property
    def is_trained(self) -> bool:
        """Whether there is a policy."""
        return self._algorithm is not None

    @property
    def timesteps(self) -> int:
        """Transitions that the agent has learned from in its life, those seen again in later epochs included."""
        return 0 if self._algorithm is None else self._algorithm.timesteps

    # Training

    def _attach(self, lessons: Lessons, env: VectorEnv | None) -> None:  # noqa: ARG002  (it told the spaces)
        if self._algorithm is None:
            self._algorithm = self._build(lessons.observation_space, lessons.action_space)
        self._taught = lessons

    def _begin(self, env: VectorEnv | None, resumption: Resumption | None) -> None:  # noqa: ARG002  (it acts in none)
        lessons = self._taught
        if lessons is None or lessons.episodes is None:
            raise InvalidInputError("Behavioural cloning learns from recorded episodes; give it an episode_sequence.")
        try:
            self.algorithm.begin(lessons.episodes, lessons.validation, resumes=resumption is not None)
        except Exception:
            self._algorithm = self._algorithm if self.timesteps else None  # nothing was learned yet: still untrained
            raise
        if resumption is not None:
            restore_random_state(resumption.random)

    def _learn(self, run: TrainingRun) -> None:
        algorithm = self.algorithm
        algorithm.target_timesteps = run.target_timesteps
        while algorithm.timesteps < run.target_timesteps and not algorithm.is_done:
            report = algorithm.update()
            if report.metrics:
                run.record_metrics(report.metrics)
            if algorithm.timesteps < run.target_timesteps and not algorithm.is_done:
                self._pass_boundary(run)
        self._complete(run)

    def _pass_boundary(self, run: TrainingRun) -> None:
        try:
            run.at_boundary(self.algorithm.timesteps)
        except RunStopped:
            self.algorithm.pause()
            raise

    def _complete(self, run: TrainingRun) -> None:
        algorithm = self.algorithm
        run.record_metrics(algorithm.finish())
        if algorithm.is_done:
            run.stop(algorithm.stop_reason)
        run.at_boundary(algorithm.timesteps)

    def _detach(self) -> None:
        self._taught = None
        self.algorithm.detach()

    # Files

    def _manifest(self) -> Manifest:
        policy = self.policy
        return Manifest(
            kind=self.kind,
            algorithm=reference_to(BehaviouralCloning),
            parameters=dataclasses.asdict(self.config),
            options={"network": dataclasses.asdict(self.network_config), "device": self.device},
            observation_space=space_to_json(policy.observation_space),
            action_space=space_to_json(policy.action_space),
            timesteps=self.timesteps,
            notes={"environment_id": self.environment_id},
        )

    def _write(self, folder: Path) -> None:
        state = self.algorithm.state_dict()
        del state["network"]
        save_network(self.algorithm.network, folder / POLICY_FILE)
        state_folder = folder / TRAINING_STATE
        state_folder.mkdir()
        write_state(state_folder, "algorithm", state)
        self._write_continuation(state_folder)

    @classmethod
    def _read(cls, folder: Path, manifest: Manifest, trust: Sequence[str], **changes: Any) -> BehaviouralCloningAgent:
        if resolve(manifest.algorithm, trust=trust) is not BehaviouralCloning:
            raise CorruptArchiveError(f"The manifest names {manifest.algorithm!r} as behavioural cloning.")
        agent = cls(
            {**manifest.parameters, **changes.get("algorithm_parameters", {})},
            network_parameters=manifest.options["network"],
            device=changes.get("device", manifest.options["device"]),
        )
        algorithm = agent._build(_read_space(manifest.observation_space), _read_space(manifest.action_space))
        load_network(algorithm.network, folder / POLICY_FILE)
        state = read_state(folder / TRAINING_STATE, "algorithm")
        algorithm.load_state_dict({**state, "network": algorithm.network.state_dict()})
        agent._algorithm = algorithm
        agent.environment_id = manifest.notes.get("environment_id")
        agent._read_continuation(folder / TRAINING_STATE)
        return agent

    @override
    def _onnx_network(self) -> OnnxNetwork:
        return exported_network(self.policy)

    def _build(self, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> BehaviouralCloning:
        device = _choose_device(self.device, observation_space)
        return BehaviouralCloning(observation_space, action_space, self.config, self.network_config, device)


def _checked_device(device: str) -> str:
    if device != AUTO:
        try:
            torch.device(device)
        except (RuntimeError, TypeError) as error:
            raise InvalidInputError(f"device must be 'auto' or a name that torch knows, got {device!r}.") from error
    return device


def _choose_device(device: str, observation_space: gym.Space[Any]) -> torch.device:
    if device != AUTO:
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() and holds_pictures(observation_space) else "cpu")


def _read_space(data: dict[str, Any] | None) -> gym.Space[Any]:
    if data is None:
        raise CorruptArchiveError("The manifest tells no spaces.")
    return space_from_json(data)
