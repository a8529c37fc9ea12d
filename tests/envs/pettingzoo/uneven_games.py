"""Small games of several agents that are not alike, in which every number is known in advance."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

Flags = dict[str, bool]


class Hunt(ParallelEnv):  # type: ignore[misc]  # PettingZoo has no types
    """A hunter sees two numbers and has three moves; two hares see one and have a continuous move.

    Everybody sees the step, the hunter also the number of the game. Hare k dies after `deaths[k]` steps (never for
    None); the game is cut after `length` steps, and ends by itself once nobody but the hunter is left where
    `ends_alone` is set. The hunter earns 1 per step, hare k earns k + 2.

    Args:
        deaths: Step after which each hare dies.
        length: Step after which the game is cut.
        ends_alone: Whether the hunter's part ends with the last hare.
        birth: Step after which the hares are born; 0 for the start.
        masked: Whether the hares have a Discrete move instead, of which only the last choice is allowed.
    """

    metadata = {"name": "hunt", "render_modes": []}  # noqa: RUF012  PettingZoo's own convention

    def __init__(
        self,
        deaths: tuple[int | None, ...] = (None, None),
        length: int = 4,
        *,
        ends_alone: bool = True,
        birth: int = 0,
        masked: bool = False,
    ) -> None:
        self.possible_agents = ["hunter", *(f"hare_{number}" for number in range(len(deaths)))]
        self.agents: list[str] = []
        self.deaths = deaths
        self.length = length
        self.ends_alone = ends_alone
        self.birth = birth
        self.masked = masked
        self.render_mode = None
        self.seeds: list[int | None] = []
        self.played: list[dict[str, Any]] = []
        self.step_count = 0

    def observation_space(self, agent: str) -> gym.Space[Any]:
        numbers = spaces.Box(0.0, np.inf, (2 if agent == "hunter" else 1,), np.float32)
        if agent == "hunter" or not self.masked:
            return numbers
        return spaces.Dict({"observation": numbers, "action_mask": spaces.MultiBinary(2)})

    def action_space(self, agent: str) -> gym.Space[Any]:
        if agent != "hunter" and self.masked:
            return spaces.Discrete(2)
        return spaces.Discrete(3) if agent == "hunter" else spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.agents = list(self.possible_agents) if self.birth == 0 else ["hunter"]
        self.seeds.append(seed)
        self.step_count = 0
        return self._observations(), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, Any]) -> Any:
        assert set(actions) == set(self.agents)
        self.played.append(dict(actions))
        self.step_count += 1
        if self.step_count == self.birth:
            self.agents = list(self.possible_agents)
        acting = list(self.agents)
        dead = {f"hare_{number}" for number, death in enumerate(self.deaths) if death == self.step_count}
        left = [agent for agent in acting if agent not in dead]
        if left == ["hunter"] and self.ends_alone:
            dead.add("hunter")
        is_cut = self.step_count >= self.length
        observations = self._observations()
        rewards = {agent: 1.0 if agent == "hunter" else 2.0 + int(agent[-1]) for agent in acting}
        terminated = {agent: agent in dead for agent in acting}
        truncated = {agent: is_cut and agent not in dead for agent in acting}
        self.agents = [agent for agent in acting if not terminated[agent] and not truncated[agent]]
        return observations, rewards, terminated, truncated, {agent: {} for agent in acting}

    def _observations(self) -> dict[str, Any]:
        numbers = np.array([self.step_count, len(self.seeds)], np.float32)
        return {agent: numbers if agent == "hunter" else self._hares_view(numbers[:1]) for agent in self.agents}

    def _hares_view(self, numbers: Any) -> Any:
        return {"observation": numbers, "action_mask": np.array([0, 1], np.int8)} if self.masked else numbers


class Duel(ParallelEnv):  # type: ignore[misc]  # PettingZoo has no types
    """Rock, paper, scissors, several times in a row; each sees what the other did last (one-hot, zeros at first).

    Args:
        rounds: Throws until the game ends.
    """

    metadata = {"name": "duel", "render_modes": []}  # noqa: RUF012  PettingZoo's own convention

    def __init__(self, rounds: int = 3) -> None:
        self.possible_agents = ["left", "right"]
        self.agents: list[str] = []
        self.rounds = rounds
        self.render_mode = None
        self.step_count = 0

    def observation_space(self, agent: str) -> gym.Space[Any]:
        return spaces.Box(0.0, 1.0, (3,), np.float32)

    def action_space(self, agent: str) -> gym.Space[Any]:
        return spaces.Discrete(3)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.agents = list(self.possible_agents)
        self.step_count = 0
        return {agent: np.zeros(3, np.float32) for agent in self.agents}, {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, Any]) -> Any:
        self.step_count += 1
        left, right = int(actions["left"]), int(actions["right"])
        gain = float((0, 1, -1)[(left - right) % 3])
        over = self.step_count >= self.rounds
        players, self.agents = self.agents, [] if over else self.agents
        seen = {"left": np.eye(3, dtype=np.float32)[right], "right": np.eye(3, dtype=np.float32)[left]}
        flags: tuple[Flags, Flags] = (dict.fromkeys(players, over), dict.fromkeys(players, False))
        return seen, {"left": gain, "right": -gain}, *flags, {agent: {} for agent in players}
