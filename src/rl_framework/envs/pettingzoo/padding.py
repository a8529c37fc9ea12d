"""Agents with different spaces, widened to common ones by the rules of the package supersuit.

Observations get zeros at the end of each axis. Boxes of actions are cut to what the agent has. Of a Discrete action
with more choices than the agent has, the extra ones are its first choice (as in supersuit); beyond that, an action mask
forbids them, for learners that read masks. Only what differs is widened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from pettingzoo.utils import BaseParallelWrapper

from rl_framework.core.policy import BoolArray
from rl_framework.core.spaces import difference
from rl_framework.envs import masks
from rl_framework.envs.pettingzoo.games import agents_of
from rl_framework.envs.pettingzoo.turns import Game
from rl_framework.errors import MissingExtraError, SpaceError

Space = gym.Space[Any]


class PaddedGame(BaseParallelWrapper[Any, Any, Any]):  # type: ignore[misc]  # PettingZoo has no types.
    """A game whose agents all have the same spaces.

    Args:
        game: The game.
        agents: Names of all its agents; those that the game declares for None.

    Raises:
        InvalidInputError: The game does not declare its agents, and none were given.
        MissingExtraError: supersuit is not installed.
        SpaceError: Spaces that cannot be widened to a common one.
    """

    def __init__(self, game: Game, agents: Sequence[str] | None = None) -> None:
        super().__init__(game)
        known = agents_of(game, agents)
        self._observation_space = _widened([game.observation_space(agent) for agent in known], "observation")
        given = {agent: game.action_space(agent) for agent in known}
        self._action_space = _widened(list(given.values()), "action")
        self._masks = _masks_of_extras(given, self._action_space)

    @property
    def gives_masks(self) -> bool:
        """Whether there are masks for choices that only some agents have."""
        return self._masks is not None

    def observation_space(self, agent: Any) -> Space:
        """The common space of observations."""
        return self._observation_space or self.env.observation_space(agent)

    def action_space(self, agent: Any) -> Space:
        """The common space of actions."""
        return self._action_space or self.env.action_space(agent)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """Open a game; the observations are widened."""
        observations, infos = super().reset(seed=seed, options=options)
        return self._widen(observations), self._with_masks(infos)

    def step(self, actions: Mapping[Any, Any]) -> tuple[Any, Any, Any, Any, Any]:
        """Take one step with widened actions."""
        observations, rewards, terminated, truncated, infos = super().step(
            {agent: self._narrow(agent, action) for agent, action in actions.items()}
        )
        return self._widen(observations), rewards, terminated, truncated, self._with_masks(infos)

    def _widen(self, observations: Mapping[Any, Any]) -> dict[Any, Any]:
        if self._observation_space is None:
            return dict(observations)
        from supersuit.utils.action_transforms import homogenize_ops

        return {
            agent: homogenize_ops.homogenize_observations(self._observation_space, np.asarray(observation))
            for agent, observation in observations.items()
        }

    def _narrow(self, agent: Any, action: Any) -> Any:
        if self._action_space is None:
            return action
        from supersuit.utils.action_transforms import homogenize_ops

        return homogenize_ops.dehomogenize_actions(self.env.action_space(agent), action)

    def _with_masks(self, infos: Mapping[Any, Any]) -> dict[Any, Any]:
        if self._masks is None:
            return dict(infos)
        return {
            agent: {**info, masks.INFO_KEY: _both(info.get(masks.INFO_KEY), self._masks[agent])}
            for agent, info in infos.items()
            if agent in self._masks
        }


def _widened(given: Sequence[Space], role: str) -> Space | None:
    """The common space, None where all are the same already."""
    if all(difference(given[0], space) is None for space in given):
        return None
    try:
        from supersuit.utils.action_transforms import homogenize_ops
    except ImportError as error:
        raise MissingExtraError("Padding the spaces of a game", "pettingzoo") from error
    if role == "observation" and not isinstance(given[0], spaces.Box):
        raise _refused(role, given, "only Boxes of observations can be widened")
    if any(isinstance(space, spaces.Discrete) and space.start != 0 for space in given):
        raise _refused(role, given, "a Discrete has to start at 0")
    try:
        homogenize_ops.check_homogenize_spaces(list(given))
    except AssertionError as error:
        raise _refused(role, given, str(error)) from error
    widened: Space = homogenize_ops.homogenize_spaces(list(given))
    return widened


def _refused(role: str, given: Sequence[Space], why: str) -> SpaceError:
    return SpaceError(
        f"The {role} spaces of the agents cannot be padded to a common one ({why}): "
        f"{', '.join(sorted({str(space) for space in given}))}. Give each kind of agent a policy of its own with "
        "IndependentAgents, or wrap the game."
    )


def _masks_of_extras(given: Mapping[str, Space], widened: Space | None) -> dict[str, BoolArray] | None:
    if not isinstance(widened, spaces.Discrete):
        return None
    choices = np.arange(widened.n)
    return {agent: choices < space.n for agent, space in given.items() if isinstance(space, spaces.Discrete)}


def _both(own: Any, extras: BoolArray) -> BoolArray:
    """What the game allows, if it says so, of the choices that an agent has."""
    if own is None:
        return extras
    allowed = extras.copy()
    allowed[: len(own)] = np.asarray(own, np.bool_)
    both: BoolArray = allowed & extras
    return both
