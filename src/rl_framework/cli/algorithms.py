"""From the name of an algorithm to an agent that has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rl_framework.core.references import resolve
from rl_framework.errors import InvalidInputError, UnknownOptionError

if TYPE_CHECKING:
    from rl_framework.agent.reinforcement_learning_agent import RLAgent

TABULAR = {"QLearning": "rl_framework.algorithms.q_learning:QLearning"}
# Engines of this library whose plain names mean those of Stable-Baselines3.
ON_POLICY = {
    "native:PPO": "rl_framework.algorithms.ppo:PPO",
    "native:A2C": "rl_framework.algorithms.policy_gradient:A2C",
    "native:REINFORCE": "rl_framework.algorithms.policy_gradient:REINFORCE",
    "native:REINFORCEWithBaseline": "rl_framework.algorithms.policy_gradient:REINFORCEWithBaseline",
    "native:OffPAC": "rl_framework.algorithms.off_policy_actor_critic:OffPAC",
}
EPISODIC = {"native:VTraceAWR": "rl_framework.algorithms.vtrace_awr:VTraceAWR"}
# Of one class, told apart by the update rule.
OFF_POLICY_CLASS = "rl_framework.algorithms.off_policy:OffPolicy"
OFF_POLICY = {"native:DDPG": "ddpg", "native:TD3": "td3", "native:SAC": "sac", "native:DQN": "dqn"}
NATIVE = {**TABULAR, **ON_POLICY, **EPISODIC, **dict.fromkeys(OFF_POLICY, OFF_POLICY_CLASS)}


def make_agent(algorithm: str, parameters: Mapping[str, Any], normalization: Mapping[str, Any] | None) -> RLAgent:
    """An untrained agent.

    Args:
        algorithm: Name of the algorithm; capitals do not matter.
        parameters: Its parameters, in the JSON form of saved agents.
        normalization: Fields of `Normalization`; None for none.

    Raises:
        UnknownOptionError: There is no such algorithm, or it has no such parameter.
        InvalidInputError: A value is out of range.
        MissingExtraError: The algorithm's library is not installed.
    """
    from rl_framework.agent.reinforcement.stable_baselines.algorithms import ALGORITHMS

    known = {name.lower(): name for name in (*ALGORITHMS, *NATIVE)}
    if algorithm.lower() not in known:
        raise UnknownOptionError.of("algorithm", algorithm, known.values())
    name = known[algorithm.lower()]
    if name not in NATIVE:
        return _stable_baselines(name, parameters, normalization)
    if name in OFF_POLICY:
        parameters = {**parameters, "rule": _with_kind(name, parameters.get("rule") or {})}
    return _native(name, parameters if normalization is None else {**parameters, **_normalizing(name, parameters)})


def _stable_baselines(name: str, parameters: Mapping[str, Any], normalization: Mapping[str, Any] | None) -> RLAgent:
    from rl_framework.agent.reinforcement.stable_baselines.agent import StableBaselinesAgent
    from rl_framework.agent.reinforcement.stable_baselines.algorithms import algorithm_named
    from rl_framework.agent.reinforcement.stable_baselines.normalization import Normalization
    from rl_framework.agent.reinforcement.stable_baselines.parameters import decode

    return StableBaselinesAgent(
        algorithm_named(name),
        decode(dict(parameters)),
        normalization=None if normalization is None else Normalization(**decode(dict(normalization))),
    )


def _native(name: str, parameters: Mapping[str, Any]) -> RLAgent:
    from rl_framework.agent.reinforcement.native import NativeAgent

    return NativeAgent(resolve(NATIVE[name]), parameters)


def _with_kind(name: str, rule: Any) -> dict[str, Any]:
    """Settings of an update rule as those of the algorithm that was named.

    Raises:
        InvalidInputError: They are those of another rule.
    """
    kind = OFF_POLICY[name]
    settings = {"kind": kind, **(rule if isinstance(rule, Mapping) else {"kind": rule})}
    if settings["kind"] != kind:
        raise InvalidInputError(f"The rule of {name} is {kind!r}, and its parameter says {settings['kind']!r}.")
    return settings


def _normalizing(name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters by which an engine of this library normalises observations and, if it can, rewards.

    Raises:
        InvalidInputError: It counts observations.
    """
    if name in TABULAR:
        raise InvalidInputError(f"{name} counts observations and cannot normalise them; leave --normalize out.")
    if name in OFF_POLICY:
        return {"rule": {**parameters["rule"], "normalize_observations": True}}
    network = {**(parameters.get("network") or {}), "normalize_observations": True}
    return {"network": network, "normalize_rewards": True if name in EPISODIC else "running"}
