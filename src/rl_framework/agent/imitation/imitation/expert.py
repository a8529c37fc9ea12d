"""Who says what to do: an agent, a policy, a model of Stable-Baselines3, or a person who is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy

from rl_framework.agent.base_agent import Agent
from rl_framework.agent.imitation.imitation.policy import BareModel
from rl_framework.agent.reinforcement.stable_baselines.environment import SpaceTranslation
from rl_framework.agent.reinforcement.stable_baselines.policy import StableBaselinesPolicy
from rl_framework.core.policy import BoolArray, Policy, PolicyOutput
from rl_framework.core.spaces import check_equal
from rl_framework.core.trees import Tree, batch_size, map_tree, select, stack
from rl_framework.errors import InvalidInputError, SpaceError


class Expert:
    """Answers what to do, with the most probable action where there are several.

    Args:
        policy: Who answers.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._memory: Tree = None

    def label(self, observations: Tree, *, episode_starts: BoolArray, action_masks: BoolArray | None) -> Tree:
        """What to do at each of these observations, asked in the order in which they were met. `[B, ...]`

        Raises:
            InvalidInputError: The answer is not an action of the action space.
        """
        output = self.policy.act(
            observations,
            self._memory,
            episode_starts=episode_starts,
            action_masks=action_masks,
            deterministic=True,
        )
        self._memory = output.state
        return output.actions

    def forget(self) -> None:
        """Answer from an empty memory from now on."""
        self._memory = None

    def state(self) -> dict[str, Any]:
        """The answerer's memory, as a plain tree; the answerer itself is not written down."""
        return {"memory": self._memory}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        self._memory = state["memory"]


class AskedPolicy:
    """A function that is asked for one action at a time; what it does to find it (ask a person) is its own business.

    Attributes:
        observation_space: Space of the environment's observations.
        action_space: Space of the environment's actions.

    Args:
        ask: Gives one action for one observation.
    """

    def __init__(
        self, ask: Callable[[Tree], Any], observation_space: gym.Space[Any], action_space: gym.Space[Any]
    ) -> None:
        self.observation_space = observation_space
        self.action_space = action_space
        self._ask = ask

    def act(
        self,
        observations: Tree,
        state: Tree = None,  # noqa: ARG002  (the protocol's; who is asked remembers alone)
        *,
        episode_starts: BoolArray | None = None,  # noqa: ARG002  (as above)
        action_masks: BoolArray | None = None,  # noqa: ARG002  (as above)
        deterministic: bool = False,  # noqa: ARG002  (there is one answer)
    ) -> PolicyOutput:
        """Ask for one action per observation; see `rl_framework.core.policy.Policy.act`.

        Raises:
            InvalidInputError: An answer is not an action of the action space.
        """
        answers = [self._answer(select(observations, row)) for row in range(batch_size(observations))]
        return PolicyOutput(stack(answers), None)

    def _answer(self, observation: Tree) -> Tree:
        given = self._ask(observation)
        answer = _like(self.action_space, given)
        if not self.action_space.contains(answer):
            raise InvalidInputError(f"The expert answered {given!r}, which is not an action of {self.action_space}.")
        return answer


def as_expert(given: Any, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> Expert:
    """What a user gave as an expert, held to the environments' spaces.

    Args:
        given: An agent, a policy, a model or policy of Stable-Baselines3 (the library's interactive policies are such),
            or a function that gives an action for one observation.
        observation_space: The environment's observations.
        action_space: The environment's actions.

    Raises:
        SpaceError: It acts in other spaces.
        InvalidInputError: It is none of these.
    """
    policy = _as_policy(given, observation_space, action_space)
    check_equal(observation_space, policy.observation_space, role="observation", who="the expert")
    check_equal(action_space, policy.action_space, role="action", who="the expert")
    return Expert(policy)


def check_expert(given: Any) -> None:
    """Refuse what cannot be an expert, before there are spaces to hold it to.

    Raises:
        InvalidInputError: It is none of what `as_expert` takes.
    """
    if not (isinstance(given, Agent | BaseAlgorithm | BasePolicy | Policy) or callable(given)):
        raise InvalidInputError(
            "expert must be an agent, a policy, a model of Stable-Baselines3, or a function that gives an action for "
            f"one observation; got {given!r}."
        )


def _as_policy(given: Any, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> Policy:
    check_expert(given)
    if isinstance(given, Agent):
        return given.policy
    if isinstance(given, BaseAlgorithm | BasePolicy):
        return _translated(given, observation_space, action_space)
    if isinstance(given, Policy):
        return given
    return AskedPolicy(given, observation_space, action_space)


def _translated(
    given: BaseAlgorithm | BasePolicy, observation_space: gym.Space[Any], action_space: gym.Space[Any]
) -> Policy:
    """A model or policy of Stable-Baselines3, which acts in the environment's spaces as that library sees them."""
    translation = SpaceTranslation(observation_space, action_space)
    theirs = given.action_space
    if theirs != translation.action_space:
        raise SpaceError(f"The action space of the expert does not fit: {theirs}, expected {translation.action_space}.")
    model: Any = given if isinstance(given, BaseAlgorithm) else BareModel(given)
    return StableBaselinesPolicy(model, translation, observation_space, action_space)


def _like(space: gym.Space[Any], answer: Any) -> Tree:
    """An answer with the space's number type and shape, where only these differ."""
    if isinstance(space, gym.spaces.Dict | gym.spaces.Tuple):
        return map_tree(np.asarray, answer)
    try:
        return np.asarray(answer, dtype=space.dtype).reshape(space.shape)
    except (TypeError, ValueError):
        return answer
