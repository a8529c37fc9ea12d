"""One row per algorithm of the library: what it needs, and what builds and trains it.

A row is data; what it names is imported only when an agent of that algorithm is made. What learns behind a row
follows one protocol, `Learner`: a class of its own beside the others, never derived from them.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import gymnasium as gym
import numpy as np

from rl_framework.agent.reinforcement.stable_baselines.parameters import unsaved_names
from rl_framework.core.policy import Policy
from rl_framework.core.references import resolve
from rl_framework.envs.vector_env import StateLevel
from rl_framework.errors import InvalidInputError, UnknownOptionError

if TYPE_CHECKING:
    import torch

    from rl_framework.agent.continuation import Resumption
    from rl_framework.agent.imitation.imitation.environment_socket import SocketVecEnv
    from rl_framework.agent.imitation.imitation.expert import Expert
    from rl_framework.agent.imitation.imitation.reward_nets import RewardNetPlan
    from rl_framework.agent.imitation_learning_agent import Lessons
    from rl_framework.agent.reinforcement.stable_baselines.environment import SpaceTranslation
    from rl_framework.agent.reinforcement.stable_baselines.model import ModelPlan
    from rl_framework.callbacks.run import TrainingRun
    from rl_framework.export.onnx import OnnxNetwork


@dataclass(frozen=True, kw_only=True, slots=True)
class AlgorithmRow:
    """One algorithm.

    Attributes:
        name: What users call it: `"GAIL"`.
        algorithm: The library's class as `module:name`.
        learner: The class of this package that follows `Learner`, as `module:name`.
        counts: What one timestep is.
        needs_episodes: Whether it learns from demonstrations.
        needs_environments: Whether it acts.
        needs_rewards: Whether the demonstrations must have rewards.
        needs_expert: Whether somebody must say, while it trains, what to do or which episode is better.
        default_generator: Stable-Baselines3's algorithm that acts and learns, by name; None if there is none.
        default_reward_net: Name of the reward network in `reward_nets.REWARD_NETS`; None if there is none.
        takes_dict_observations: Whether observations may be a Dict.
        takes_validation: Whether it measures itself on episodes that are kept apart.
        minds_horizons: Whether episodes of different lengths bias what it learns.
        resumes: How exactly a learner goes on from what it writes.
        is_own_loop: Whether this package runs the loop, so that nobody would hear of methods that a derived class
            overrides.
        reserved: The constructor's parameters that are not the user's, each with where their content comes from.
        own_parameters: Names that users may give beside the constructor's, e.g. those of the library's `train`.
        preparation: A function as `module:name` that checks what was given by these names and gives it in a form that
            can be written down; None where there is nothing to do.
    """

    name: str
    algorithm: str
    learner: str
    counts: Literal["transitions", "environment steps", "iterations"] = "environment steps"
    needs_episodes: bool = True
    needs_environments: bool = True
    needs_rewards: bool = False
    needs_expert: bool = False
    default_generator: str | None = None
    default_reward_net: str | None = None
    takes_dict_observations: bool = False
    takes_validation: bool = False
    minds_horizons: bool = False
    resumes: StateLevel = StateLevel.EXACT
    is_own_loop: bool = False
    reserved: Mapping[str, str] = field(default_factory=dict)
    own_parameters: tuple[str, ...] = ()
    preparation: str | None = None

    def algorithm_class(self) -> type[Any]:
        """The library's class."""
        found: type[Any] = resolve(self.algorithm)
        return found

    def learner_class(self) -> type[Learner]:
        """What builds and trains it."""
        found: type[Learner] = resolve(self.learner)
        return found

    def prepare(self, algorithm_class: type[Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters, checked by name, in a form that can be written down.

        Raises:
            UnknownOptionError: A name is not a parameter of the algorithm; a similar one is suggested.
            InvalidInputError: A name is set by this library, or a value is none that the algorithm takes.
        """
        self.check_names(constructor_parameters(algorithm_class), parameters)
        if self.preparation is None:
            return dict(parameters)
        prepared: dict[str, Any] = resolve(self.preparation)(saved_part(parameters))
        return {**prepared, **{name: parameters[name] for name in unsaved_names(parameters)}}

    def check_names(self, of_constructor: set[str], parameters: Mapping[str, Any]) -> None:
        """Refuse names that the algorithm does not know.

        Raises:
            UnknownOptionError: A name is not a parameter of the algorithm; a similar one is suggested.
            InvalidInputError: A name is set by this library.
        """
        known = (of_constructor - set(self.reserved)) | set(self.own_parameters)
        for name in parameters:
            if name in self.reserved:
                raise InvalidInputError(f"Parameter {name!r} of {self.name} is set here. {self.reserved[name]}")
            if name not in known:
                raise UnknownOptionError.of(f"parameter of {self.name}", name, known)


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerPlan:
    """What a learner is made from.

    Attributes:
        row: Its row.
        algorithm_class: The library's class, or a class of the user's derived from it.
        parameters: What the user gave for it, checked by name.
        observation_space: The environment's observations.
        action_space: The environment's actions.
        venv: Where environments are plugged in; the library's objects are built around it and stay there. It has
            the spaces that Stable-Baselines3 works with.
        generator: How the generator is made, None if the row has none.
        reward_net: How the reward network is made, None if the row has none.
        expert: Who says what to do, None if nobody does.
        allow_variable_horizon: What the library is told.
        rng: Where the library's own draws come from; its state belongs to the training state.
    """

    row: AlgorithmRow
    algorithm_class: type[Any]
    parameters: Mapping[str, Any]
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    venv: SocketVecEnv
    generator: ModelPlan | None = None
    reward_net: RewardNetPlan | None = None
    expert: Expert | None = None
    allow_variable_horizon: bool = True
    rng: np.random.Generator

    @property
    def translation(self) -> SpaceTranslation:
        """Between the environment's spaces and those that Stable-Baselines3 works with."""
        return self.venv.translation

    def own(self, *names: str) -> dict[str, Any]:
        """The given ones among the parameters."""
        return {name: self.parameters[name] for name in names if name in self.parameters}

    def constructor_arguments(self) -> dict[str, Any]:
        """The parameters that the library's constructor takes."""
        return {name: value for name, value in self.parameters.items() if name not in self.row.own_parameters}


class Learner(Protocol):
    """The library's object with everything around it, able to be trained in portions, saved and continued.

    It is built without environments and without demonstrations, over `plan.venv`, and lives as long as the number of
    environments stays the same; with another number a new one is built and filled with `networks` and `state`.
    """

    def __init__(self, plan: LearnerPlan) -> None:
        """Build it. Nothing is learned, no environment is touched."""
        ...

    @property
    def policy(self) -> Policy:
        """What acts, in the environment's own spaces."""
        ...

    @property
    def timesteps(self) -> int:
        """What it has learned from in its life, as the row counts it."""
        ...

    def attach(self, lessons: Lessons) -> None:
        """Take up demonstrations; environments are in `plan.venv` by now.

        Raises:
            InvalidInputError: They do not suffice for one update.
        """
        ...

    def begin(self, resumption: Resumption | None) -> None:
        """Open the first episodes, or go on in those of an interrupted run. Random generators are the agent's."""
        ...

    def learn(self, run: TrainingRun) -> None:
        """Learn until `run.target_timesteps`, telling the run of episodes, numbers and boundaries."""
        ...

    def detach(self) -> None:
        """Let go of the demonstrations."""
        ...

    def networks(self) -> Mapping[str, torch.nn.Module]:
        """What is written as `<name>.safetensors`; the one that acts is called `policy`."""
        ...

    def state(self) -> dict[str, Any]:
        """Everything else that the next step depends on, as a plain tree."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave; the networks are filled by then."""
        ...

    def onnx_network(self) -> OnnxNetwork:
        """The deterministic policy as a network.

        Raises:
            InvalidInputError: It has none.
        """
        ...


def saved_part(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters without what could not be written down when an agent was saved, at any depth of mappings."""
    kept = {name: value for name, value in parameters.items() if not unsaved_names({name: value})}
    nested = {
        name: saved_part(value) for name, value in parameters.items() if name not in kept and isinstance(value, Mapping)
    }
    return {**kept, **nested}


def constructor_parameters(algorithm_class: type[Any]) -> set[str]:
    """Names that a constructor takes, those that it hands on to its base classes by `**kwargs` included."""
    names: set[str] = set()
    for base in algorithm_class.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(base).parameters.values()
        names |= {each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
        if all(each.kind is not each.VAR_KEYWORD for each in parameters):
            break
    return names
