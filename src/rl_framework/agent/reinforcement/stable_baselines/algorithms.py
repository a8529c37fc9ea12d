"""The algorithms of the two libraries by name. sb3-contrib is an extra: it is looked up only when asked for."""

from __future__ import annotations

import importlib

from stable_baselines3.common.base_class import BaseAlgorithm

from rl_framework.errors import MissingExtraError, UnknownOptionError

ALGORITHMS = {
    **dict.fromkeys(("A2C", "DDPG", "DQN", "PPO", "SAC", "TD3"), "stable_baselines3"),
    **dict.fromkeys(("ARS", "CrossQ", "MaskablePPO", "QRDQN", "RecurrentPPO", "TQC", "TRPO"), "sb3_contrib"),
}


def algorithm_named(name: str) -> type[BaseAlgorithm]:
    """The class of a name, e.g. `"PPO"`; capitals do not matter.

    Raises:
        UnknownOptionError: Neither library has such an algorithm.
        MissingExtraError: It is one of sb3-contrib, which is not installed.
    """
    exact = next((known for known in ALGORITHMS if known.lower() == name.lower()), None)
    if exact is None:
        raise UnknownOptionError.of("algorithm", name, ALGORITHMS)
    try:
        module = importlib.import_module(ALGORITHMS[exact])
    except ImportError as error:
        raise MissingExtraError(f"The algorithm {exact}", "contrib") from error
    found: type[BaseAlgorithm] = getattr(module, exact)
    return found


def is_contrib(algorithm_class: type[BaseAlgorithm], name: str) -> bool:
    """Whether a class is sb3-contrib's class of that name, or derived from it, without importing sb3-contrib."""
    return any(base.__name__ == name and base.__module__.startswith("sb3_contrib.") for base in algorithm_class.__mro__)
