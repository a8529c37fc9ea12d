"""One game of several agents, with a place for every agent that may take part, whether it is there or not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from rl_framework.core.policy import BoolArray
from rl_framework.core.spaces import check_supported, leaf_shape, map_space
from rl_framework.core.trees import Tree
from rl_framework.envs import masks
from rl_framework.envs.batch import check_first_observation
from rl_framework.envs.pettingzoo.turns import Game, Turns
from rl_framework.errors import InvalidInputError, RLFrameworkError, SpaceError

Space = gym.Space[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class GameStep:
    """What one step of a game gave, place by place.

    Attributes:
        observations: One per agent; blank for those that are not there.
        rewards: `[A]`; 0 for those that were not there.
        active: Whose action counted in this step. `[A]`
        ended: Whether this was the game's last step.
        terminated: Whose part ended with the task; only in the last step. `[A]`
        truncated: Whose part was cut (a time limit); only in the last step. `[A]`
        infos: The game's remarks, one dict per agent.
    """

    observations: list[Tree]
    rewards: npt.NDArray[np.float64]
    active: BoolArray
    ended: bool
    terminated: BoolArray
    truncated: BoolArray
    infos: list[dict[str, Any]]


class AgentPlaces:
    """Plays a game with one place per possible agent, so that nobody has to ask who is there.

    An agent that is dead, not yet born or away has a blank observation (zeros), its action is ignored, and it earns
    nothing unless the game says so.
    A mask of allowed actions is taken out of the observation (`action_mask` in a Dict, as in PettingZoo's classic
    games; what is left of a Dict of two parts is the other part) or comes from the infos.

    Args:
        game: The game; its agents all move at once.
        agents: Names of the agents, in the order of their places; those that the game declares for None.

    Raises:
        InvalidInputError: The game does not declare its agents, or not those given.
        SpaceError: A space that is not supported.
    """

    def __init__(self, game: Game, agents: Sequence[str] | None = None) -> None:
        self.game = game
        self.agents = agents_of(game, agents)
        self._given_spaces = tuple(game.observation_space(agent) for agent in self.agents)
        self.observation_spaces = tuple(_without_mask(space) for space in self._given_spaces)
        self.action_spaces = tuple(game.action_space(agent) for agent in self.agents)
        for space in self.observation_spaces:
            check_supported(space, "observation")
        for space in self.action_spaces:
            check_supported(space, "action")
        self._blanks = tuple(blank(space) for space in self.observation_spaces)
        self.has_masks = any(_has_mask(space) for space in self._given_spaces) or getattr(game, "gives_masks", False)
        self.present: tuple[bool, ...] = (False,) * len(self.agents)
        self._acting: tuple[bool, ...] = (False,) * len(self.agents)
        self._masks: list[BoolArray | None] = []
        self._turns = Turns(game)
        self._flags: dict[str, tuple[bool, bool]] = {}

    @property
    def masks(self) -> list[BoolArray | None] | None:
        """Allowed actions of each agent, None for one that may do anything; None if the game has no masks."""
        return self._masks if self.has_masks else None

    def reset(self, seed: int | None = None) -> list[Tree]:
        """Open a game and give each agent's first observation."""
        observations, infos = self.game.reset(seed=seed)
        self._flags = {}
        self.has_masks = self.has_masks or any(masks.INFO_KEY in _info_of(infos, agent) for agent in self.agents)
        self._notice_who_is_there()
        shown = self._look(observations)
        for agent, space, observation in zip(self.agents, self.observation_spaces, shown, strict=True):
            _check_first(agent, space, observation)
        self._note_masks(observations, infos)
        return shown

    def step(self, actions: Sequence[Tree]) -> GameStep:
        """Take one step with one action per agent, also for those that are not there."""
        active = np.array(self._acting)
        given = self._given(actions)
        observations, rewards, terminated, truncated, infos = self.game.step(given)
        flags = {
            agent: (bool(terminated.get(agent, False)), bool(truncated.get(agent, False)))
            for agent in {*given, *terminated, *truncated}
        }
        self._flags.update(flags)
        self._notice_who_is_there()
        ended = all(any(flags.get(agent, (False, False))) for agent in self._names_there())
        shown = self._look(observations, [agent in observations for agent in self.agents] if ended else None)
        if not ended:
            self._note_masks(observations, infos)
        ends = self._ends(given) if ended else np.zeros((len(self.agents), 2), np.bool_)
        return GameStep(
            observations=shown,
            rewards=np.array([float(rewards.get(agent, 0.0)) for agent in self.agents]),
            active=active,
            ended=ended,
            terminated=ends[:, 0],
            truncated=ends[:, 1],
            infos=[dict(_info_of(infos, agent)) for agent in self.agents],
        )

    def _given(self, actions: Sequence[Tree]) -> dict[str, Tree]:
        """The actions of those that are there, as the game wants them."""
        places = zip(self.agents, self.action_spaces, actions, self.present, strict=True)
        return {
            agent: int(action) if isinstance(space, spaces.Discrete) else action
            for agent, space, action, here in places
            if here
        }

    def _names_there(self) -> list[str]:
        return [agent for agent, here in zip(self.agents, self.present, strict=True) if here]

    def _notice_who_is_there(self) -> None:
        strangers = [agent for agent in self.game.agents if agent not in self.agents]
        if strangers:
            raise RLFrameworkError(
                f"the agent {strangers[0]!r} takes part, but the game declared {list(self.agents)} as its "
                "possible_agents. Declare all of them."
            )
        self.present = tuple(agent in self.game.agents for agent in self.agents)
        self._acting = tuple(
            here and self._turns.is_on(agent) for agent, here in zip(self.agents, self.present, strict=True)
        )

    def _look(self, observations: Mapping[str, Any], there: Sequence[bool] | None = None) -> list[Tree]:
        """Each agent's view; a blank one for those that are not there."""
        there = self.present if there is None else there
        return [self._view(place, observations) if here else self._blanks[place] for place, here in enumerate(there)]

    def _view(self, place: int, observations: Mapping[str, Any]) -> Tree:
        agent = self.agents[place]
        if agent not in observations:
            raise SpaceError(f"agent {agent!r}: it is there, but the game gave no observation for it.")
        return _part_without_mask(self._given_spaces[place], observations[agent])

    def _note_masks(self, observations: Mapping[str, Any], infos: Mapping[str, Any]) -> None:
        if not self.has_masks:
            return
        self._masks = [
            self._mask_of(place, observations[agent], _info_of(infos, agent)) if acting else None
            for place, (agent, acting) in enumerate(zip(self.agents, self._acting, strict=True))
        ]

    def _mask_of(self, place: int, observation: Any, info: Mapping[str, Any]) -> BoolArray | None:
        mask = observation[masks.INFO_KEY] if _has_mask(self._given_spaces[place]) else info.get(masks.INFO_KEY)
        if mask is None:
            return None
        width = masks.mask_width(self.action_spaces[place])
        if width is None:
            raise SpaceError(f"it gives action masks, but {self.action_spaces[place]} cannot be masked.")
        try:
            return masks.flat_mask(mask, width)
        except SpaceError as error:
            raise SpaceError(f"agent {self.agents[place]!r}: {error}") from error

    def _ends(self, last_players: Iterable[str]) -> npt.NDArray[np.bool_]:
        """How each agent's part in a game that is over ended, `[A, 2]` (terminated, truncated).

        The last that the game said of an agent counts, also where it said so long before its end. Those of whom it
        said nothing (never born, or gone without a word) share the end of the last players.
        """
        was_cut = any(self._flags[agent] == (False, True) for agent in last_players)
        flags = [self._flags.get(agent, (False, False)) for agent in self.agents]
        return np.array([known if any(known) else (not was_cut, was_cut) for known in flags])


def agents_of(game: Game, names: Sequence[str] | None = None) -> tuple[str, ...]:
    """The agents of a game in the order of their places: as given, else as the game declares them.

    Raises:
        InvalidInputError: The game does not declare its agents and none were given, or others than it declares.
    """
    declared = list(getattr(game, "possible_agents", None) or ())
    chosen = declared if names is None else list(names)
    if not chosen:
        raise InvalidInputError(
            f"The game {game} does not declare its possible_agents. Each agent needs rows of its own: pass their names "
            "as PettingZooGame(game, agents=[...])."
        )
    if declared and sorted(chosen, key=str) != sorted(declared, key=str):
        raise InvalidInputError(f"Expected all of the game's agents {declared}, in any order, got {chosen}.")
    return tuple(chosen)


def blank(space: Space) -> Tree:
    """What an agent sees that is not there: zeros, and the first choice of a Discrete."""
    return map_space(_blank_leaf, space)


def _blank_leaf(leaf: Space) -> npt.NDArray[Any]:
    first = leaf.start if isinstance(leaf, (spaces.Discrete, spaces.MultiDiscrete)) else 0
    return np.full(leaf_shape(leaf), first, leaf.dtype)


def _check_first(agent: str, space: Space, observation: Tree) -> None:
    try:
        check_first_observation(space, observation)
    except SpaceError as error:
        raise SpaceError(f"agent {agent!r}: {error}") from error


def _has_mask(space: Space) -> bool:
    return isinstance(space, spaces.Dict) and masks.INFO_KEY in space.spaces


def _without_mask(space: Space) -> Space:
    if not isinstance(space, spaces.Dict) or masks.INFO_KEY not in space.spaces:
        return space
    rest = {key: part for key, part in space.spaces.items() if key != masks.INFO_KEY}
    return next(iter(rest.values())) if len(rest) == 1 else spaces.Dict(rest)


def _part_without_mask(space: Space, observation: Any) -> Tree:
    if not _has_mask(space):
        return observation
    rest = {key: part for key, part in observation.items() if key != masks.INFO_KEY}
    return next(iter(rest.values())) if len(rest) == 1 else rest


def _info_of(infos: Mapping[str, Any], agent: str) -> Mapping[str, Any]:
    info = infos.get(agent)
    return info if isinstance(info, Mapping) else {}
