"""Algorithms of this library, and of its users, as agents."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from rl_framework.agent.algorithm_agent import AlgorithmAgent
from rl_framework.agent.continuation import Resumption
from rl_framework.agent.reinforcement_learning_agent import RLAgent
from rl_framework.algorithms.base import Algorithm, make_config
from rl_framework.algorithms.detached_env import DetachedEnv
from rl_framework.checkpoints.manifest import Manifest
from rl_framework.core.references import resolve, without_references
from rl_framework.core.seeding import restore_random_state
from rl_framework.envs.vector_env import EnvSpec, StateLevel, VectorEnv
from rl_framework.errors import InvalidInputError

if TYPE_CHECKING:
    from rl_framework.export.onnx import OnnxNetwork


class NativeAgent(AlgorithmAgent[Algorithm], RLAgent):
    """An agent whose engine follows the `Algorithm` protocol: this library's algorithms and users' own.

    Args:
        algorithm_class: The algorithm, e.g. `QLearning`.
        algorithm_parameters: Fields of `algorithm_class.Config`.

    Raises:
        InvalidInputError: It is not an algorithm, or a value is out of range.
        UnknownOptionError: A parameter is not a field of its configuration.
    """

    kind: ClassVar[str] = "native"
    changeable: ClassVar[tuple[str, ...]] = ("algorithm_parameters",)

    def __init__(self, algorithm_class: type[Algorithm], algorithm_parameters: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        _check_algorithm(algorithm_class)
        self.algorithm_class = algorithm_class
        self.config = make_config(algorithm_class.Config, algorithm_parameters or {})

    @classmethod
    def from_algorithm(cls, algorithm: Algorithm, spec: EnvSpec, *, timesteps: int = 0) -> NativeAgent:
        """An agent that knows what an algorithm has learned in somebody's own loop; it goes its own way from there.

        Args:
            algorithm: What has learned; its hyper-parameters are its attribute `config`.
            spec: Of the environments that it has learned in.
            timesteps: Environment steps that it has learned from.

        Raises:
            InvalidInputError: It is not an algorithm, or has no hyper-parameters.
        """
        config = getattr(algorithm, "config", None)
        if not dataclasses.is_dataclass(config) or isinstance(config, type):
            raise InvalidInputError(
                f"An agent is made from an algorithm with its hyper-parameters as `config`, such as a PPO; got "
                f"{type(algorithm).__name__}."
            )
        parameters = {each.name: getattr(config, each.name) for each in dataclasses.fields(config) if each.init}
        agent = cls(type(algorithm), parameters)
        agent._move_to(DetachedEnv(spec))
        agent.algorithm.load_state_dict(algorithm.state_dict())
        agent._timesteps = timesteps
        return agent

    @property
    @override
    def _agent_level(self) -> StateLevel:
        """What the algorithm says, exact if it says nothing."""
        return getattr(self._algorithm, "resume_level", StateLevel.EXACT)

    def _algorithm_class(self) -> type[Algorithm]:
        return self.algorithm_class

    def _attach(self, env: VectorEnv) -> None:
        self._move_to(env)

    def _begin(self, env: VectorEnv, resumption: Resumption | None) -> None:
        self._resumes = resumption is not None
        if resumption is None:
            self._observations = env.reset(seed=getattr(self.config, "seed", None) if self._timesteps == 0 else None)
        else:
            self._observations = resumption.observations
            restore_random_state(resumption.random)

    def _detach(self) -> None:
        self._observations = None
        if self._spec is not None:
            self._move_to(DetachedEnv(self._spec))

    def _move_to(self, env: VectorEnv) -> None:
        move = getattr(self._algorithm, "move_to", None)
        if move is not None:
            move(env)
            self._spec = env.spec
            return
        learned = None if self._algorithm is None else self._algorithm.state_dict()
        algorithm = self.algorithm_class(env, self.config)  # type: ignore[call-arg]  # a protocol tells no constructor
        if learned is not None:
            algorithm.load_state_dict(learned)
        self._algorithm, self._spec = algorithm, env.spec

    @classmethod
    def _read(cls, folder: Path, manifest: Manifest, trust: Sequence[str], **changes: Any) -> NativeAgent:
        saved = without_references(manifest.parameters, trust=trust)
        parameters = {**saved, **changes.get("algorithm_parameters", {})}
        return cls(resolve(manifest.algorithm, trust=trust), parameters)._restored(folder, manifest)

    @override
    def _onnx_network(self) -> OnnxNetwork:
        from rl_framework.agent.network_export import exported_network
        from rl_framework.agent.rule_export import exported_rule
        from rl_framework.algorithms.off_policy_acting import RulePolicy
        from rl_framework.envs.masks import mask_width
        from rl_framework.nn.network_policy import NetworkPolicy

        policy, spec = self.policy, self._known_spec()
        if isinstance(policy, RulePolicy):
            return exported_rule(policy)
        if not isinstance(policy, NetworkPolicy):
            return super()._onnx_network()
        return exported_network(policy, n_masked=mask_width(spec.action_space) if spec.has_action_masks else None)


def _check_algorithm(algorithm_class: Any) -> None:
    verbs = ("Config", "begin", "collect", "update", "state_dict", "load_state_dict")
    missing = [verb for verb in verbs if not hasattr(algorithm_class, verb)]
    if not isinstance(algorithm_class, type) or missing:
        raise InvalidInputError(
            "algorithm_class must be a class that follows the Algorithm protocol, such as QLearning; "
            f"{algorithm_class!r} lacks {', '.join(missing) or 'nothing but is not a class'}."
        )
