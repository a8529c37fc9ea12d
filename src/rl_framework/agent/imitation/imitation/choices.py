"""What users choose: an algorithm, a generator, a reward network, each by class or by name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stable_baselines3.common.base_class import BaseAlgorithm

from rl_framework.agent.imitation.imitation.rows import AlgorithmRow, Learner, LearnerPlan
from rl_framework.agent.imitation.imitation.table import row_named, row_of
from rl_framework.agent.reinforcement.stable_baselines.algorithms import algorithm_named
from rl_framework.agent.reinforcement.stable_baselines.model import ModelPlan
from rl_framework.agent.reinforcement.stable_baselines.normalization import Normalization
from rl_framework.agent.reinforcement.stable_baselines.parameters import check_parameters, encode, unsaved_names
from rl_framework.compat.installation import missing
from rl_framework.core.references import reference_to
from rl_framework.core.seeding import capture_random_state, restore_random_state
from rl_framework.errors import InvalidInputError

if TYPE_CHECKING:
    from rl_framework.agent.imitation.imitation.reward_nets import RewardNetPlan


def check_installed() -> None:
    """Refuse to begin without the library.

    Raises:
        MissingExtraError: It is not installed; the message has the commands that install it.
    """
    try:
        importlib.import_module("imitation.algorithms.base")
    except ImportError as error:
        raise missing("ImitationAgent", "imitation") from error


def find_row(algorithm_class: Any) -> AlgorithmRow:
    """The row of an algorithm, by class or by name.

    Raises:
        UnknownOptionError: There is no such name.
        InvalidInputError: It is no class of the library, nor derived from one.
    """
    if isinstance(algorithm_class, str):
        return row_named(algorithm_class)
    if not isinstance(algorithm_class, type):
        raise InvalidInputError(
            "algorithm_class must be an algorithm of the imitation library, by class or by name such as 'BC'; got "
            f"{algorithm_class!r}."
        )
    return row_of(algorithm_class)


def generator_plan(
    row: AlgorithmRow,
    generator_class: type[BaseAlgorithm] | str | None,
    parameters: Mapping[str, Any] | None,
    normalization: Normalization | None,
) -> ModelPlan | None:
    """How the generator is made that a user asks for; None for an algorithm that has none.

    Args:
        row: The algorithm.
        generator_class: A class or a name, None for the algorithm's own choice.
        parameters: What its constructor takes.
        normalization: What is put around its environments.

    Raises:
        UnknownOptionError: There is no such algorithm or parameter.
        InvalidInputError: It is no algorithm of Stable-Baselines3, or this algorithm has no generator.
    """
    if row.default_generator is None:
        if generator_class is not None or parameters or normalization is not None:
            raise InvalidInputError(
                f"{row.name} has no generator: leave out generator_class, generator_parameters and normalization."
            )
        return None
    found = row.default_generator if generator_class is None else generator_class
    if isinstance(found, str):
        found = algorithm_named(found)
    if not (isinstance(found, type) and issubclass(found, BaseAlgorithm)):
        raise InvalidInputError(
            f"generator_class must be an algorithm of stable_baselines3 or sb3_contrib, such as PPO; got {found!r}."
        )
    check_parameters(found, parameters or {})
    return ModelPlan(found, dict(parameters or {}), normalization)


def reward_net_plan(row: AlgorithmRow, reward_net: Any, parameters: Mapping[str, Any] | None) -> RewardNetPlan | None:
    """How the reward network is made that a user asks for; None for an algorithm that has none.

    Raises:
        UnknownOptionError: There is no such network or parameter.
        InvalidInputError: It is no class of reward networks, or this algorithm has none.
    """
    from rl_framework.agent.imitation.imitation.reward_nets import as_reward_net_plan

    if row.default_reward_net is not None:
        return as_reward_net_plan(reward_net, parameters or {}, default=row.default_reward_net)
    if reward_net is not None or parameters:
        raise InvalidInputError(f"{row.name} has no reward network: leave out reward_net and reward_net_parameters.")
    return None


def generator_to_json(plan: ModelPlan) -> dict[str, Any]:
    """What a manifest says of a generator."""
    return {"class": reference_to(plan.algorithm_class), "parameters": encode(dict(plan.parameters))}


def build_apart(plan: LearnerPlan) -> Learner:
    """A learner whose making draws nothing from the process's generators, and seeds nothing."""
    before = capture_random_state()
    try:
        return plan.row.learner_class()(plan)
    finally:
        restore_random_state(before)
        plan.venv.seed(None)


def check_saved(argument: str, parameters: Mapping[str, Any]) -> None:
    """Refuse to train with parameters that a saved agent could not hold.

    Args:
        argument: How `load_agent` calls them.
        parameters: As they were read.

    Raises:
        InvalidInputError: One of them is missing.
    """
    names = unsaved_names(parameters)
    if names:
        raise InvalidInputError(
            f"Parameters {names} could not be written down when this agent was saved (a lambda, or an object of an "
            f"unknown class). To train it, load it with {argument}={{...}} that give them again."
        )
