"""Small games of several agents, in which who is there, and every number, is known in advance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from pettingzoo import AECEnv, ParallelEnv

Stays = Mapping[str, Sequence[tuple[int, int]]]

EVERYBODY: Stays = {"a": [(0, 4)], "b": [(0, 4)]}


class Stage(ParallelEnv):  # type: ignore[misc]  # PettingZoo has no types.
    """Agents come and go by a script.

    An agent that stays from `begin` to `end` is there after `begin` steps and acts until `end` steps were taken; then
    it is terminated. Everybody sees [number of the game, steps taken, place + 1, noise of the seed] and earns
    `10 * place + steps taken`. After `length` steps the game is over: cut if `is_cut`, else terminated.

    Args:
        stays: When each agent is there.
        length: Steps of the game.
        is_cut: How it ends for those who are there at its end.
        says_ends: Whether the game says how its agents end; a careless one only empties its list of agents.
        breaks: Kind of misbehaviour and the step at which it happens.
    """

    metadata = {"name": "stage", "render_modes": ["rgb_array"], "render_fps": 12}  # noqa: RUF012  PettingZoo's own way

    def __init__(
        self,
        stays: Stays = EVERYBODY,
        length: int = 4,
        *,
        is_cut: bool = True,
        says_ends: bool = True,
        breaks: tuple[str, int] | None = None,
    ) -> None:
        self.possible_agents = list(stays)
        self.agents: list[str] = []
        self.render_mode = "rgb_array"
        self.steps = 0
        self.games = -1
        self.noise = 0.0
        self.given: list[dict[str, Any]] = []
        self.is_open = True
        self.brightness = 3
        self._stays = {agent: [tuple(stay) for stay in parts] for agent, parts in stays.items()}
        self._length = length
        self._is_cut = is_cut
        self._says_ends = says_ends
        self._breaks = breaks
        self._spaces: dict[str, gym.Space[Any]] = {agent: spaces.Box(-1.0, 1e6, (4,), np.float32) for agent in stays}
        self._action_spaces: dict[str, gym.Space[Any]] = {agent: spaces.Discrete(3) for agent in stays}
        self.rng = np.random.default_rng(0)

    def observation_space(self, agent: str) -> gym.Space[Any]:
        return self._spaces[agent]

    def action_space(self, agent: str) -> gym.Space[Any]:
        return self._action_spaces[agent]

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        self.games, self.steps, self.noise = self.games + 1, 0, float(self.rng.random())
        self.agents = self._there(0)
        return self._observations(self.agents), {agent: {} for agent in self.agents}

    def step(self, actions: Mapping[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
        assert set(actions) == set(self.agents), (actions, self.agents)
        self.given.append(dict(actions))
        self.steps += 1
        self._break("raises")
        before, over = self.agents, self.steps >= self._length
        self.agents = [] if over else self._there(self.steps)
        gone = {agent for agent in before if agent not in self.agents}
        cut = {agent for agent in gone if over and self._is_cut and (self._end(agent) >= self._length)}
        seen = [agent for agent in self.possible_agents if agent in before or agent in self.agents]
        flags = [{agent: self._says_ends and agent in some for agent in seen} for some in (gone - cut, cut)]
        infos = {agent: {"is_success": agent == "a"} for agent in seen}
        return self._observations(seen), self._rewards(before), flags[0], flags[1], infos

    def render(self) -> Any:
        return np.full((4, 6, 3), self.steps, np.uint8)

    def close(self) -> None:
        self.is_open = False

    def brighten(self, amount: int) -> int:
        self.brightness += amount
        return self.brightness

    def _there(self, steps: int) -> list[str]:
        return [agent for agent, stays in self._stays.items() if any(begin <= steps < end for begin, end in stays)]

    def _end(self, agent: str) -> int:
        return max(end for begin, end in self._stays[agent] if begin < self.steps)

    def _observations(self, agents: Sequence[str]) -> dict[str, Any]:
        bad = self._breaks == ("observes", self.steps)
        return {
            agent: np.array([self.games, self.steps, place + 1, np.nan if bad and place else self.noise], np.float32)
            for place, agent in enumerate(self.possible_agents)
            if agent in agents
        }

    def _rewards(self, agents: Sequence[str]) -> dict[str, float]:
        bad = self._breaks == ("rewards", self.steps)
        return {
            agent: np.inf if bad and place else 10.0 * place + self.steps
            for place, agent in enumerate(self.possible_agents)
            if agent in agents
        }

    def _break(self, how: str) -> None:
        if self._breaks == (how, self.steps):
            raise ValueError("out of order")


class MaskedStage(Stage):
    """A stage on which only the choice `steps taken % 3` is allowed, as agents see in their observation or info."""

    def __init__(self, stays: Stays = EVERYBODY, *, in_info: bool = False) -> None:
        super().__init__(stays)
        self._in_info = in_info
        mask = spaces.Box(0, 1, (3,), np.int8)
        self._masked = {
            agent: spaces.Dict({"observation": self._spaces[agent], "action_mask": mask}) for agent in stays
        }

    def observation_space(self, agent: str) -> gym.Space[Any]:
        return self._spaces[agent] if self._in_info else self._masked[agent]

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        observations, infos = super().reset(seed, options)
        return self._wrapped(observations), self._noted(infos)

    def step(self, actions: Mapping[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
        observations, rewards, terminated, truncated, infos = super().step(actions)
        return self._wrapped(observations), rewards, terminated, truncated, self._noted(infos)

    def _mask(self) -> Any:
        return np.eye(3, dtype=np.int8)[self.steps % 3]

    def _wrapped(self, observations: dict[str, Any]) -> dict[str, Any]:
        if self._in_info:
            return observations
        return {agent: {"observation": one, "action_mask": self._mask()} for agent, one in observations.items()}

    def _noted(self, infos: dict[str, Any]) -> dict[str, Any]:
        if not self._in_info:
            return infos
        return {agent: {**info, "action_mask": self._mask()} for agent, info in infos.items()}


class UnlikeStage(Stage):
    """A stage whose agents have spaces of their own."""

    def __init__(self, observations: Sequence[gym.Space[Any]], actions: Sequence[gym.Space[Any]]) -> None:
        super().__init__()
        self._spaces = dict(zip(self.possible_agents, observations, strict=True))
        self._action_spaces = dict(zip(self.possible_agents, actions, strict=True))

    def _observations(self, agents: Sequence[str]) -> dict[str, Any]:
        return {agent: np.ones(self._spaces[agent].shape or (), self._spaces[agent].dtype) for agent in agents}


class Countdown(AECEnv):  # type: ignore[misc]  # PettingZoo has no types.
    """Two players take one or two sticks of a heap in turn; who takes the last one wins 1, the other loses 1.

    Each sees [sticks left, whether it is its turn]. Two sticks can only be taken while there are two.

    Args:
        sticks: Height of the heap.
        is_parallelizable: What the game says of itself.
    """

    def __init__(self, sticks: int = 5, *, is_parallelizable: bool = False) -> None:
        self.metadata = {"name": "countdown", "render_modes": [], "is_parallelizable": is_parallelizable}
        self.possible_agents = ["first", "second"]
        self.agents: list[str] = []
        self.render_mode = None
        self.sticks = sticks
        self._heap = sticks
        self._space = spaces.Dict(
            {"observation": spaces.Box(0, 100, (2,), np.float32), "action_mask": spaces.Box(0, 1, (2,), np.int8)}
        )
        self._action_space = spaces.Discrete(2)

    def observation_space(self, agent: str) -> gym.Space[Any]:
        return self._space

    def action_space(self, agent: str) -> gym.Space[Any]:
        return self._action_space

    def observe(self, agent: str) -> Any:
        is_on = agent == self.agent_selection
        mask = np.array([is_on, is_on and self.sticks > 1], np.int8)
        return {"observation": np.array([self.sticks, is_on], np.float32), "action_mask": mask}

    def reset(self, seed: int | None = None, options: Any = None) -> None:
        self.agents = list(self.possible_agents)
        self.sticks = self._heap
        self.agent_selection = self.agents[0]
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos: dict[str, dict[str, Any]] = {agent: {} for agent in self.agents}

    def step(self, action: int | None) -> None:
        if self.terminations[self.agent_selection]:
            self._was_dead_step(action)
            return
        assert action is not None
        player = self.agent_selection
        other = next(agent for agent in self.agents if agent != player)
        self.sticks -= 1 + int(action)
        assert self.sticks >= 0
        self._cumulative_rewards[player] = 0.0
        over = self.sticks == 0
        self.rewards = {player: float(over), other: -float(over)}
        self.terminations = dict.fromkeys(self.agents, over)
        self.agent_selection = other
        self._accumulate_rewards()


def make_stage() -> Stage:
    """A stage of which no other has a part."""
    return Stage()
