"""A Unity player without Unity: a small countable game in this process, for tests of what stands on the wire.

Each agent counts its decisions. What it sees is (its number, decisions so far, sum of its episode's actions), what it
earns for a decision is the action's first number, and its episode ends after its horizon.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from rl_framework.envs.unity.launch import UnityLaunch
from rl_framework.errors import UnityPlayerDied

LEAKED = 100.0
"""Reward in each first decision, which belongs to no action."""


def sensor(name: str, shape: tuple[int, ...], properties: tuple[int, ...] = ()) -> Any:
    """What a `BehaviorSpec` says of a sensor."""
    return SimpleNamespace(name=name, shape=shape, dimension_property=properties)


def behavior(continuous: int, branches: tuple[int, ...], *sensors: Any) -> Any:
    """A `BehaviorSpec`."""
    return SimpleNamespace(
        observation_specs=list(sensors),
        action_spec=SimpleNamespace(continuous_size=continuous, discrete_branches=branches),
    )


@dataclass(kw_only=True)
class Script:
    """What the game is like; every player of a test shares one.

    Attributes:
        agents: How many there are.
        horizons: Decisions of an episode; agent i has entry i modulo their number.
        interrupts: Numbers of the agents whose episodes are cut instead of ending.
        continuous: Count of continuous actions.
        branches: Sizes of the discrete branches.
        forbids: Forbidden choices in each message, branch after branch; none if empty.
        respawns: Messages for which an agent is away after its episode, by its number.
        late: Message of an episode in which an agent speaks first, by its number.
        groups: Group of each agent by its number.
        dies_at: Exchanges, counted over all players, in which the player dies.
        behaviors: Names of the behaviours.
        started: Launches of the players that were started.
        players: These players.
    """

    agents: int = 2
    horizons: tuple[int, ...] = (3,)
    interrupts: tuple[int, ...] = ()
    continuous: int = 1
    branches: tuple[int, ...] = ()
    forbids: tuple[bool, ...] = ()
    respawns: Mapping[int, int] = field(default_factory=dict)
    late: Mapping[int, int] = field(default_factory=dict)
    groups: Mapping[int, int] = field(default_factory=dict)
    dies_at: tuple[int, ...] = ()
    behaviors: tuple[str, ...] = ("Count?team=0",)
    exchanges: int = 0
    started: list[UnityLaunch] = field(default_factory=list)
    players: list[ScriptedPlayer] = field(default_factory=list)

    def start(self, launch: UnityLaunch, side_channels: Sequence[Any]) -> ScriptedPlayer:
        """Start a player; the `start=` of the classes under test."""
        player = ScriptedPlayer(self, launch, side_channels)
        self.started.append(launch)
        self.players.append(player)
        return player


@dataclass
class _Agent:
    number: int
    waits: int = 0
    decisions: int = 0
    total: float = 0.0
    earned: float = LEAKED
    asks: bool = False


class ScriptedPlayer:
    """Plays a script; see `envs.unity.player.UnityPlayer`.

    Attributes:
        resets: How often the scene was restarted.
        acts: Actions of each exchange by behaviour: continuous and discrete.
        parameters: Environment parameters that were set.
        closed: How often it was closed.
    """

    def __init__(self, script: Script, launch: UnityLaunch, side_channels: Sequence[Any] = ()) -> None:
        self.script, self.launch, self.side_channels = script, launch, tuple(side_channels)
        self.resets = self.closed = 0
        self.acts: list[dict[str, tuple[Any, Any]]] = []
        self.parameters: dict[str, float] = {}
        self.statistics: dict[str, float] = {}
        self._actions: dict[str, tuple[Any, Any]] = {}
        self._said: dict[str, tuple[Any, Any]] = {}
        self._casts: dict[str, list[_Agent]] = {}

    @property
    def behaviors(self) -> Mapping[str, Any]:
        """All the same, each with three numbers to see."""
        spec = behavior(self.script.continuous, self.script.branches, sensor("Counter", (3,)))
        return dict.fromkeys(self._said, spec)

    def reset(self) -> None:
        """Restart all agents."""
        self.resets += 1
        late = self.script.late
        numbers = range(self.script.agents)
        self._casts = {name: [_Agent(i, waits=late.get(i, 0)) for i in numbers] for name in self.script.behaviors}
        self._speak({name: [] for name in self._casts})

    def steps(self, name: str) -> tuple[Any, Any]:
        """The latest message."""
        return self._said[name]

    def act(self, name: str, continuous: Any, discrete: Any) -> None:
        """Take the actions of those that asked."""
        asked = len(self._said[name][0].agent_id)
        assert continuous.shape == (asked, self.script.continuous)
        assert continuous.dtype == np.float32
        assert discrete.shape == (asked, len(self.script.branches))
        assert discrete.dtype == np.int32
        self._actions[name] = (continuous.copy(), discrete.copy())

    def exchange(self) -> None:
        """One message further."""
        self.script.exchanges += 1
        if self.script.exchanges in self.script.dies_at:
            raise UnityPlayerDied("the script says so.", row=self.launch.index, log_tail=["last words"])
        self.acts.append(self._actions)
        self._speak({name: self._move(name, agents) for name, agents in self._casts.items()})
        self._actions = {}

    def set_parameter(self, name: str, value: float) -> None:
        """Note it."""
        self.parameters[name] = value

    def drain_statistics(self) -> dict[str, float]:
        """Give what a test put there."""
        given, self.statistics = self.statistics, {}
        return given

    def close(self) -> None:
        """Note it."""
        self.closed += 1

    def double(self, number: float, *, plus: float = 0.0) -> float:
        """Something to call."""
        return 2 * number + plus

    def _move(self, name: str, agents: list[_Agent]) -> list[Any]:
        """Let those act that asked, and give the ends."""
        asked = [agent for agent in agents if agent.asks]
        given = self._actions.get(name)
        ends = []
        for at, agent in enumerate(asked):
            numbers = [0.0] if given is None else [*given[0][at].tolist(), *given[1][at].tolist()]
            agent.earned = numbers[0]
            agent.total += numbers[0]
            agent.decisions += 1
            if agent.decisions == self.script.horizons[agent.number % len(self.script.horizons)]:
                ends.append((agent.number, self._sees(agent), agent.earned))
                respawns = self.script.respawns.get(agent.number, 0)
                agents[agents.index(agent)] = _Agent(agent.number, waits=respawns)
        return ends

    def _speak(self, ends: Mapping[str, list[Any]]) -> None:
        for name, agents in self._casts.items():
            for agent in agents:
                agent.asks = agent.waits == 0
                agent.waits = max(0, agent.waits - 1)
            self._said[name] = (self._decisions([one for one in agents if one.asks]), self._ends(ends[name]))

    def _decisions(self, agents: list[_Agent]) -> Any:
        script, count = self.script, len(agents)
        forbids = np.array(script.forbids or [False] * sum(script.branches), np.bool_)
        masks = np.split(np.tile(forbids, (count, 1)), np.cumsum(script.branches)[:-1], axis=1)
        said = [(one.number, self._sees(one), one.earned) for one in agents]
        return SimpleNamespace(**self._columns(said), action_mask=masks if script.branches else None)

    def _ends(self, ends: list[Any]) -> Any:
        interrupted = np.array([number in self.script.interrupts for number, _, _ in ends], np.bool_)
        return SimpleNamespace(**self._columns(ends), interrupted=interrupted)

    def _columns(self, said: list[Any]) -> dict[str, Any]:
        numbers = [number for number, _, _ in said]
        groups = [self.script.groups.get(number, 0) for number in numbers]
        return {
            "obs": [np.array([seen for _, seen, _ in said], np.float32).reshape(len(said), 3)],
            "reward": np.array([earned for _, _, earned in said], np.float32),
            "agent_id": np.array(numbers, np.int32),
            "group_id": groups,
            "group_reward": np.array([0.5 if group else 0.0 for group in groups], np.float32),
        }

    def _sees(self, agent: _Agent) -> list[float]:
        return [float(agent.number), float(agent.decisions), agent.total]
