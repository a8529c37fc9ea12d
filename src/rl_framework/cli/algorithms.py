"""From the name of an algorithm to an agent that has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rl_framework.errors import InvalidInputError, UnknownOptionError

if TYPE_CHECKING:
    from rl_framework.agent.reinforcement_learning_agent import RLAgent

NATIVE = ("QLearning",)


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
    if normalization is not None:
        raise InvalidInputError(f"{name} counts observations and cannot normalise them; leave --normalize out.")
    return _native(parameters)


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


def _native(parameters: Mapping[str, Any]) -> RLAgent:
    from rl_framework.agent.reinforcement.native import NativeAgent
    from rl_framework.algorithms.q_learning import QLearning

    return NativeAgent(QLearning, parameters)
