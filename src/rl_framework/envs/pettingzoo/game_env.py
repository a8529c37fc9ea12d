"""A whole game as one gymnasium environment: what steps games in this process or in others need know no agents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from rl_framework.core.policy import BoolArray
from rl_framework.core.spaces import allocate, difference
from rl_framework.core.trees import Tree, select
from rl_framework.envs import masks
from rl_framework.envs.batch import find_invalid_number, observation_writer
from rl_framework.envs.pettingzoo.games import AgentPlaces
from rl_framework.envs.pettingzoo.turns import Game, layers_of
from rl_framework.errors import InvalidNumberError, SpaceError

Space = gym.Space[Any]

STEP_KEY = "agents"
"""Where a step's info has the `AgentRemarks`."""


@dataclass(frozen=True, slots=True)
class AgentSpaces:
    """What each agent of a game observes and does.

    Attributes:
        agents: Their names.
        observation_space: Space of one agent's observation.
        action_space: Space of one agent's action.
        has_masks: Whether there are masks; those that travel in infos are known after the first reset.
    """

    agents: tuple[str, ...]
    observation_space: Space
    action_space: Space
    has_masks: bool


@dataclass(frozen=True, slots=True)
class AgentRemarks:
    """What a step gave that gymnasium has one number for, agent by agent.

    Attributes:
        rewards: `[A]`
        terminated: `[A]`
        truncated: `[A]`
        infos: One dict per agent.
    """

    rewards: list[float]
    terminated: list[bool]
    truncated: list[bool]
    infos: list[dict[str, Any]]


class GameEnv(gym.Env[Tree, Tree]):
    """A game whose agents all have the same spaces, as one environment that observes and does what all of them do.

    Observations and actions have an axis for the agents, `[A, ...]`; the reward is 0, because each agent has its own
    in the info's `AgentRemarks`.

    Args:
        game: The game; its agents all move at once.
        agents: Names of the agents, in the order of their places; those that the game declares for None.

    Raises:
        SpaceError: The agents' spaces differ, or are not supported.
    """

    def __init__(self, game: Game, agents: Sequence[str] | None = None) -> None:
        self._places = AgentPlaces(game, agents)
        self.agent_spaces = common_spaces(self._places)
        count = len(self.agent_spaces.agents)
        self.observation_space = batched(self.agent_spaces.observation_space, count)
        self.action_space = batched(self.agent_spaces.action_space, count)
        self.metadata = dict(game.metadata)
        self._writer = observation_writer(self.agent_spaces.observation_space)
        self._width = masks.mask_width(self.agent_spaces.action_space)
        self._number = 0
        self._steps = 0

    @property
    def game(self) -> Game:
        """The game."""
        return self._places.game

    @property
    def render_mode(self) -> str | None:  # type: ignore[override]  # The game decides; nobody sets it here.
        """How the game is rendered."""
        return getattr(self.game, "render_mode", None)

    @property
    def inner_layers(self) -> Iterator[Any]:
        """The game and its wrappers: where its state is."""
        return layers_of(self.game)

    @property
    def present(self) -> tuple[bool, ...]:
        """Which agents are there now. `[A]`"""
        return self._places.present

    def take_number(self, number: int) -> None:
        """Note which of several games this is, for the message if something goes wrong."""
        self._number = number

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tree, dict[str, Any]]:  # noqa: ARG002  # part of gymnasium's signature
        """Open a game."""
        super().reset(seed=seed)
        self._steps = 0
        return self._stacked(self._places.reset(seed)), self._mask_info()

    def step(self, action: Tree) -> tuple[Tree, float, bool, bool, dict[str, Any]]:
        """Let every agent that is there act. `[A, ...]`"""
        agents = self.agent_spaces.agents
        self._steps += 1
        taken = self._places.step([select(action, place) for place in range(len(agents))])
        self._check_rewards(taken.rewards)
        remarks = AgentRemarks(
            rewards=taken.rewards.tolist(),
            terminated=taken.terminated.tolist(),
            truncated=taken.truncated.tolist(),
            infos=[
                {**info, "agent": agent, "active": bool(active)}
                for info, agent, active in zip(taken.infos, agents, taken.active, strict=True)
            ],
        )
        info = {STEP_KEY: remarks, **({} if taken.ended else self._mask_info())}
        is_cut = taken.ended and not taken.terminated.any()
        return self._stacked(taken.observations), 0.0, taken.ended and not is_cut, is_cut, info

    def render(self) -> Any:
        """The game's picture."""
        return self.game.render()

    def close(self) -> None:
        """Close the game."""
        self.game.close()

    def has_wrapper_attr(self, name: str) -> bool:
        """Whether this or a layer of the game has an attribute."""
        return name != masks.METHOD and any(hasattr(layer, name) for layer in (self, *self.inner_layers))

    def get_wrapper_attr(self, name: str) -> Any:
        """Read an attribute of this or of the outermost layer of the game that has it."""
        holder = next((layer for layer in (self, *self.inner_layers) if hasattr(layer, name)), self)
        return getattr(holder, name)

    def set_wrapper_attr(self, name: str, value: Any, *, force: bool = True) -> bool:
        """Set an attribute on the layer of the game that has it, on the game itself if it is new."""
        layers = list(self.inner_layers)
        holder = next((layer for layer in layers if name in vars(layer)), layers[-1] if force else None)
        if holder is not None:
            setattr(holder, name, value)
        return holder is not None

    def __str__(self) -> str:
        """The game's name, as PettingZoo gives it."""
        return f"The game {self.game}"

    def _stacked(self, observations: Sequence[Tree]) -> Tree:
        stacked = allocate(self.agent_spaces.observation_space, len(observations))
        for place, observation in enumerate(observations):
            self._write(stacked, place, observation)
        found = find_invalid_number(stacked)
        if found is not None:
            raise self._invalid_number(*found)
        return stacked

    def _write(self, stacked: Tree, place: int, observation: Tree) -> None:
        try:
            self._writer.write(stacked, place, observation)
        except SpaceError as error:
            raise SpaceError(f"agent {self.agent_spaces.agents[place]!r}: {error}") from error

    def _check_rewards(self, rewards: npt.NDArray[np.float64]) -> None:
        for place, reward in enumerate(rewards.tolist()):
            if not isfinite(reward):
                raise self._invalid_number(place, f"the reward is {reward}")

    def _invalid_number(self, place: int, what: str) -> InvalidNumberError:
        agent = self.agent_spaces.agents[place]
        return InvalidNumberError(f"agent {agent!r}: {what}", row=self._number, step=self._steps)

    def _mask_info(self) -> dict[str, BoolArray]:
        given = self._places.masks
        if given is None or self._width is None:
            return {}
        free = np.ones(self._width, np.bool_)
        return {masks.INFO_KEY: np.concatenate([free if mask is None else mask for mask in given])}


def batched(space: Space, count: int) -> Space:
    """The space of `count` values side by side. `[count, ...]`"""
    # Gymnasium would make a Box of these two, which cannot be masked.
    if isinstance(space, spaces.MultiBinary):
        return spaces.MultiBinary((count, *space.shape))
    if isinstance(space, spaces.MultiDiscrete):
        nvec, start = (np.stack([part] * count) for part in (space.nvec, space.start))
        return spaces.MultiDiscrete(nvec, dtype=space.dtype, start=start)
    return batch_space(space, count)


def common_spaces(places: AgentPlaces) -> AgentSpaces:
    """The spaces that all agents share.

    Raises:
        SpaceError: They differ; the message names agents, spaces and the ways out.
    """
    for role, all_spaces in (("observation", places.observation_spaces), ("action", places.action_spaces)):
        if any(difference(all_spaces[0], space) is not None for space in all_spaces):
            raise SpaceError(_in_words(role, places.agents, all_spaces))
    return AgentSpaces(places.agents, places.observation_spaces[0], places.action_spaces[0], places.has_masks)


def _in_words(role: str, agents: Sequence[str], all_spaces: Sequence[Space]) -> str:
    kinds: list[tuple[Space, list[str]]] = []
    for agent, space in zip(agents, all_spaces, strict=True):
        same = next((names for known, names in kinds if difference(known, space) is None), None)
        if same is None:
            kinds.append((space, [agent]))
        else:
            same.append(agent)
    listed = "; ".join(f"{', '.join(names)}: {space}" for space, names in kinds)
    return (
        f"The agents of the game have different {role} spaces, so one policy cannot play for all of them ({listed}). "
        "Pass PettingZooGame(game, padding=True) to widen them to a common one, or give each kind of agent a policy "
        "of its own with IndependentAgents."
    )
