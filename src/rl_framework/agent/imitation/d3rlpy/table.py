"""Which algorithms of d3rlpy there are and how they differ, one row each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rl_framework.compat.d3rlpy import import_d3rlpy
from rl_framework.errors import InvalidInputError, UnknownOptionError


@dataclass(frozen=True, kw_only=True, slots=True)
class AlgorithmRow:
    """What this library needs to know of an algorithm; everything else the algorithm tells itself.

    Attributes:
        name: Name of its class in `d3rlpy.algos`; its configuration is `<name>Config`.
        discrete: Whether it chooses among numbered actions rather than real vectors.
        instead: The algorithm to take for the other kind of actions.
        needs_rewards: Whether it learns from rewards.
        is_transformer: Whether it reads stretches of an episode and is told a return to aim at.
        draws: Whether its best action is the best of several that it draws.
        counters: Attributes of its implementation that decide how it goes on, and that d3rlpy does not save.
    """

    name: str
    discrete: bool
    instead: str
    needs_rewards: bool = True
    is_transformer: bool = False
    draws: bool = False
    counters: tuple[str, ...] = ()

    @property
    def config_class(self) -> Any:
        """The class of its configuration."""
        return getattr(import_d3rlpy().algos, f"{self.name}Config")

    @property
    def reference(self) -> str:
        """Its class as `module:name`."""
        return f"d3rlpy.algos:{self.name}"


def _continuous(name: str, instead: str = "DiscreteCQL", **differences: Any) -> AlgorithmRow:
    return AlgorithmRow(name=name, discrete=False, instead=instead, **differences)


def _discrete(name: str, instead: str = "CQL", **differences: Any) -> AlgorithmRow:
    return AlgorithmRow(name=name, discrete=True, instead=instead, **differences)


ROWS = {
    row.name: row
    for row in (
        _continuous("AWAC"),
        _continuous("BC", "DiscreteBC", needs_rewards=False),
        _continuous("BCQ", "DiscreteBCQ", draws=True),
        _continuous("BEAR", draws=True),
        _continuous("CQL"),
        _continuous("CRR", draws=True),
        _continuous("CalQL"),
        _continuous("DDPG", "DQN"),
        _continuous("DecisionTransformer", "DiscreteDecisionTransformer", is_transformer=True),
        _continuous("IQL"),
        _continuous("PLAS"),
        _continuous("PLASWithPerturbation"),
        _continuous("ReBRAC"),
        _continuous("SAC", "DiscreteSAC"),
        _continuous("TACR", "DiscreteDecisionTransformer", is_transformer=True),
        _continuous("TD3", "DQN"),
        _continuous("TD3PlusBC"),
        _discrete("DQN", "TD3"),
        _discrete("DiscreteBC", "BC", needs_rewards=False),
        _discrete("DiscreteBCQ", "BCQ"),
        _discrete("DiscreteCQL"),
        # https://github.com/takuseno/d3rlpy/blob/v2.8.1/d3rlpy/algos/transformer/torch/decision_transformer_impl.py
        # counts the tokens that set its learning rate, and says in a note to itself that they are not saved.
        _discrete("DiscreteDecisionTransformer", "DecisionTransformer", is_transformer=True, counters=("_tokens",)),
        _discrete("DiscreteSAC", "SAC"),
        _discrete("DoubleDQN", "TD3"),
        _discrete("NFQ", "TD3"),
    )
}

LEFT_OUT = {
    "PRDC": "each of its updates searches a copy of the whole data set, which is no part of what is saved",
    "RandomPolicy": "it does not learn",
    "DiscreteRandomPolicy": "it does not learn",
}


def find_row(algorithm_class: Any) -> AlgorithmRow:
    """The row of an algorithm.

    Args:
        algorithm_class: Its class or that of its configuration in `d3rlpy.algos`, or its name.

    Raises:
        UnknownOptionError: d3rlpy has no such algorithm.
        InvalidInputError: It has, but it is not offered here; or something else was given.
    """
    if not isinstance(algorithm_class, str | type):
        raise InvalidInputError(
            "algorithm_class must be an algorithm of d3rlpy.algos, its configuration class or its name, such as CQL, "
            f"CQLConfig or 'CQL'; got {algorithm_class!r}. Its settings go into algorithm_parameters."
        )
    given = algorithm_class if isinstance(algorithm_class, str) else algorithm_class.__name__
    name = given.removesuffix("Config")
    if name in LEFT_OUT:
        raise InvalidInputError(f"{name} of d3rlpy is not offered here: {LEFT_OUT[name]}.")
    if name not in ROWS:
        raise UnknownOptionError.of("algorithm of d3rlpy", given, ROWS)
    if isinstance(algorithm_class, type) and algorithm_class.__module__.partition(".")[0] != "d3rlpy":
        raise InvalidInputError(f"{algorithm_class!r} is called like an algorithm of d3rlpy but is not from there.")
    return ROWS[name]
