"""One game in several hands: groups of its agents, each as a vector environment with spaces of its own.

The groups' vector environments are ordinary ones over a `GameShare` per game, which looks like a whole game to them.
A step goes in three parts: every group says what its agents do (`SharedGames.act`), the games are stepped
(`SharedGames.advance`), and every group takes what it sees of it (`recv` of its vector environment).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
from gymnasium import spaces

from rl_framework.core.trees import Tree
from rl_framework.envs.batch import ActionReader
from rl_framework.envs.pettingzoo.games import blank
from rl_framework.envs.pettingzoo.turns import Game
from rl_framework.envs.pettingzoo.vector_env import PettingZooVectorEnv
from rl_framework.errors import EnvironmentFailure, RLFrameworkError

Results = tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any]]


class SharedGames:
    """Copies of a game, seen by several groups of its agents.

    Attributes:
        views: The vector environment of each group; its rows are the group's agents, game after game. Of its verbs,
            `reset` and `reset_to_schedule` are called for one group after the other, with the same seeds; `send` and
            `recv` are called by `act` and `take`.

    Args:
        games: The games, which stay the caller's to close.
        groups: Names of each group's agents; together they are all agents of the game, each once.

    Raises:
        SpaceError: The agents of a group have different spaces.
    """

    def __init__(self, games: Sequence[Game], groups: Mapping[str, Sequence[str]]) -> None:
        self._joint = [JointGame(game) for game in games]
        self.views = {
            name: PettingZooVectorEnv([GameShare(joint, agents) for joint in self._joint])
            for name, agents in groups.items()
        }
        self._readers = {
            name: ActionReader(view.spec.action_space, view.spec.n_envs) for name, view in self.views.items()
        }
        self._sent: dict[str, Sequence[Tree]] = {}

    def act(self, group: str, actions: Tree) -> None:
        """Say what a group does next. `[B, ...]`

        Raises:
            InvalidInputError: Wrong structure, shape or kind of number.
        """
        reader = self._readers[group]
        self.views[group].send(actions)
        self._sent[group] = reader.rows(reader.read(actions))

    def advance(self) -> None:
        """Step all games that are not over with what the groups said.

        Raises:
            RLFrameworkError: A group has said nothing.
            EnvironmentFailure: A game raised; the failure's row is the number of the game.
        """
        silent = self.views.keys() - self._sent.keys()
        if silent:
            raise RLFrameworkError(f"The game waits for the agents of {sorted(silent)}.")
        for number, joint in enumerate(self._joint):
            _step(joint, number, self._joint_actions(number))
        self._sent = {}

    def _joint_actions(self, number: int) -> dict[str, Tree]:
        actions = {}
        for name, view in self.views.items():
            names, width = view.spec.row_agents or (), view.spec.rows_per_game
            for row in range(number * width, (number + 1) * width):
                action = self._sent[name][row]
                is_choice = isinstance(view.spec.action_space, spaces.Discrete)
                actions[names[row]] = int(action) if is_choice else action
        return actions


class JointGame:
    """A game that is reset and stepped once for all its shares.

    Args:
        game: The game; its agents all move at once.
    """

    def __init__(self, game: Game) -> None:
        self.game = game
        self.is_running = False
        self.steps = 0
        self.flags: dict[str, tuple[bool, bool]] = {}
        self.shares: list[GameShare] = []
        self._shown_to: set[int] = set()
        self._opening: tuple[dict[str, Any], dict[str, Any]] = ({}, {})

    def open_for(self, share: GameShare, seed: int | None) -> tuple[dict[str, Any], dict[str, Any]]:
        """The first observations of a game: a new one for the first share that asks, the same for the others."""
        if not self._shown_to or id(share) in self._shown_to:
            self._opening = self.game.reset(seed=seed)
            self._shown_to, self.flags, self.is_running, self.steps = set(), {}, True, 0
        self._shown_to.add(id(share))
        return self._opening

    def step(self, actions: Mapping[str, Tree]) -> None:
        """Take a step and tell all shares, unless the game is over."""
        if not self.is_running:
            return
        self.steps += 1
        present = list(self.game.agents)
        strangers = [agent for agent in present if agent not in actions]
        if strangers:
            raise RLFrameworkError(
                f"the agent {strangers[0]!r} takes part, but is none of {list(actions)}. Declare all agents."
            )
        results: Results = self.game.step({agent: actions[agent] for agent in present})
        _, _, terminated, truncated, _ = results
        ends = {
            agent: (bool(terminated.get(agent, False)), bool(truncated.get(agent, False)))
            for agent in {*present, *terminated, *truncated}
        }
        self.flags.update(ends)
        self.is_running = not all(any(ends.get(agent, (False, False))) for agent in self.game.agents)
        was_cut = any(cut and not ended for ended, cut in ends.values())
        for share in self.shares:
            share.note(results, was_cut=was_cut)

    def is_there(self, agent: str) -> bool:
        """Whether an agent takes part and will go on to."""
        return agent in self.game.agents and not any(self.flags.get(agent, (False, False)))


class GameShare:
    """Some agents of a game, as a `ParallelEnv` that lasts as long as the whole.

    While none of them is there and the others play on, all of them are shown as waiting: their observation is blank,
    they earn 0, and what they do is ignored. How each of them had ended is said at the game's end.

    Args:
        joint: The whole.
        agents: Their names.
    """

    def __init__(self, joint: JointGame, agents: Sequence[str]) -> None:
        self.joint = joint
        self.env = joint.game
        self.possible_agents = list(agents)
        self.agents: list[str] = []
        self.waiting: list[str] = []
        self.metadata = dict(joint.game.metadata)
        self.render_mode = getattr(joint.game, "render_mode", None)
        self._results: Results = ({}, {}, {}, {}, {})
        joint.shares.append(self)

    def observation_space(self, agent: str) -> gym.Space[Any]:
        """The agent's space in the game."""
        space: gym.Space[Any] = self.env.observation_space(agent)
        return space

    def action_space(self, agent: str) -> gym.Space[Any]:
        """The agent's space in the game."""
        space: gym.Space[Any] = self.env.action_space(agent)
        return space

    def reset(
        self,
        seed: int | None = None,
        options: dict[str, Any] | None = None,  # noqa: ARG002  # part of PettingZoo's signature
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Open a game, or see the one that another share has opened."""
        observations, infos = self.joint.open_for(self, seed)
        there = self._there()
        self._take_places(there)
        return (self._mine(observations) if there else self._waiting()), self._mine(infos)

    def step(self, actions: dict[str, Any]) -> Results:  # noqa: ARG002  # the game was stepped with all actions
        """What these agents see of the step that the whole game has taken."""
        return self._results

    def note(self, results: Results, *, was_cut: bool) -> None:
        """Keep what these agents see of a step, until they ask."""
        observations, rewards, terminated, truncated, infos = (self._mine(part) for part in results)
        there = self._there()
        if not self.joint.is_running:
            observations = {**self._waiting(), **observations}
            terminated, truncated = self._ends(was_cut=was_cut)
        elif not there:
            observations = self._waiting()
            terminated, truncated = (dict.fromkeys(self.possible_agents, False) for _ in range(2))
        self._take_places(there)
        self._results = (observations, rewards, terminated, truncated, infos)

    def render(self) -> Any:
        """The whole game's picture."""
        return self.env.render()

    def close(self) -> None:
        """The game is closed by whoever made it."""

    def _take_places(self, there: list[str]) -> None:
        self.waiting = [] if there or not self.joint.is_running else list(self.possible_agents)
        self.agents = there or list(self.waiting)

    def _there(self) -> list[str]:
        return [agent for agent in self.possible_agents if self.joint.is_there(agent)]

    def _mine(self, part: Mapping[str, Any]) -> dict[str, Any]:
        return {agent: part[agent] for agent in self.possible_agents if agent in part}

    def _waiting(self) -> dict[str, Any]:
        return {agent: blank(self.observation_space(agent)) for agent in self.possible_agents}

    def _ends(self, *, was_cut: bool) -> tuple[dict[str, bool], dict[str, bool]]:
        flags = {agent: self.joint.flags.get(agent, (False, False)) for agent in self.possible_agents}
        known = {agent: ends if any(ends) else (not was_cut, was_cut) for agent, ends in flags.items()}
        return {agent: ends[0] for agent, ends in known.items()}, {agent: ends[1] for agent, ends in known.items()}


def _step(joint: JointGame, number: int, actions: Mapping[str, Tree]) -> None:
    try:
        joint.step(actions)
    except Exception as error:
        message = str(error) if isinstance(error, RLFrameworkError) else f"{type(error).__name__}: {error}"
        raise EnvironmentFailure(message, row=number, step=joint.steps) from error
