"""The game: ticks, and who has something to say at each."""

from __future__ import annotations

from itertools import count
from random import Random
from typing import Any

from tests.envs.unity.peer import channels
from tests.envs.unity.peer.book import BookWriter
from tests.envs.unity.peer.infos import brain_parameters, info
from tests.envs.unity.peer.protocol import message
from tests.envs.unity.peer.reacher import Reacher
from tests.envs.unity.peer.world import GROUP_COST, Behavior, World


class Cast:
    """The agents of one behaviour.

    Args:
        behavior: Their kind.
        areas: Copies of the area with its agents.
        seed: For their starts.
        identities: Where fresh ids come from.
        book: Where ends are noted.
    """

    def __init__(self, behavior: Behavior, areas: int, seed: int, identities: Any, book: BookWriter) -> None:
        self.behavior = behavior
        self.agents: list[Reacher] = []
        self.notes: list[Any] = []
        self.asked: list[Reacher] = []
        self.introduced = False
        self.ended: list[Reacher] = []
        self._seed, self._areas, self._identities, self._book = seed, areas, identities, book

    def seed(self, seed: int) -> None:
        """Let coming starts follow from another seed."""
        self._seed = seed
        for agent in self.agents:
            agent.random = self._random(agent.index)

    def populate(self, tick: int, fixed_target: float | None) -> None:
        """Let those come whose time it is."""
        for index in range(len(self.agents), self._wanted(tick)):
            group = index // self.behavior.group_size + 1 if self.behavior.group_size else 0
            agent = Reacher(self.behavior, index, next(self._identities), self._random(index), group)
            agent.begin(fixed_target)
            self.agents.append(agent)

    def speak(self, tick: int) -> list[Any]:
        """Notes of ended episodes, then requests for decisions."""
        self.asked = [agent for agent in self.agents if agent.asks(tick)]
        said = self.notes + [info(agent) for agent in self.asked]
        self.notes = []
        return said

    def listen(self, actions: Any) -> None:
        """Give those who asked their actions, in order.

        Raises:
            ValueError: Not one action for each that asked.
        """
        if len(actions) != len(self.asked):
            raise ValueError(f"{self.behavior.name}: {len(self.asked)} agents asked, {len(actions)} actions came")
        for agent, action in zip(self.asked, actions, strict=True):
            agent.open_account().decisions += 1
            agent.obey(list(action.continuous_actions), list(action.discrete_actions))

    def advance(self, fixed_target: float | None) -> None:
        """One tick: all move, earn, end, and come back."""
        present = [agent for agent in self.agents if not agent.away]
        for agent in self.agents:
            if agent.away > 0:
                self._come_nearer(agent, fixed_target)
        for agent in present:
            agent.move()
        self._share_rewards(present)
        self.ended = []
        for agent in present:
            over, interrupted = self._end(agent, present)
            if over:
                self.ended.append(agent)
                self._note_end(agent, interrupted=interrupted)
        for agent in self.ended:
            self._leave(agent, fixed_target)

    def restart(self, fixed_target: float | None) -> None:
        """The reset that Python asks for: new episodes everywhere, without ends."""
        for agent in self.agents:
            agent.away = 0
            agent.begin(fixed_target)

    def _wanted(self, tick: int) -> int:
        if tick < self.behavior.from_tick:
            return 0
        grown = self.behavior.growth if self.behavior.growth and tick >= self.behavior.growth_tick else 0
        return self.behavior.agents * self._areas + grown

    def _random(self, index: int) -> Random:
        return Random(f"{self._seed}/{self.behavior.name}/{index}")

    def _come_nearer(self, agent: Reacher, fixed_target: float | None) -> None:
        agent.away -= 1
        if not agent.away:
            agent.begin(fixed_target)

    def _share_rewards(self, present: list[Reacher]) -> None:
        for agent in present if self.behavior.group_size else ():
            farthest = max(other.distance for other in present if other.group == agent.group)
            agent.earn(-GROUP_COST * farthest, from_group=True)

    def _end(self, agent: Reacher, present: list[Reacher]) -> tuple[bool, bool]:
        together = [other for other in present if other.group == agent.group] if agent.group else [agent]
        reached = any(other.reached for other in together)
        late = agent.ticks >= agent.horizon
        return reached or late, late and not reached

    def _note_end(self, agent: Reacher, *, interrupted: bool) -> None:
        self.notes.append(info(agent, done=True, interrupted=interrupted))
        if agent.account is not None:
            self._book.episode(
                behavior=self.behavior.name, agent=agent.identity, index=agent.index, group=agent.group,
                interrupted=interrupted, **vars(agent.account),
            )  # fmt: skip

    def _leave(self, agent: Reacher, fixed_target: float | None) -> None:
        if self.behavior.fresh_ids:
            agent.identity = next(self._identities)
        agent.away = -1 if agent.index in self.behavior.lost else self.behavior.respawn_delay
        if not agent.away:
            agent.begin(fixed_target)


class Game:
    """All agents, their clock, and the side channels.

    Args:
        world: What it is like.
        seed: That Python gave in the handshake.
        areas: Number of areas that Python asked for.
        book: Where it notes what happens.
    """

    def __init__(self, world: World, seed: int, areas: int, book: BookWriter) -> None:
        self._world, self._book = world, book
        self._tick = 0
        self._parameters: dict[str, float] = {}
        identities = count()
        self._casts = [Cast(behavior, areas, seed, identities, book) for behavior in world.behaviors]
        self._reports = b""

    @property
    def _fixed_target(self) -> float | None:
        return self._parameters.get("target")

    def speak(self) -> Any | None:
        """What is said at this tick, None if nobody has anything to say."""
        output = message("unity_output", "UnityOutputProto")()
        for cast in self._casts:
            cast.populate(self._tick, self._fixed_target)
            if said := cast.speak(self._tick):
                output.rl_output.agentInfos[cast.behavior.name].value.extend(said)
                if not cast.introduced:
                    output.rl_initialization_output.brain_parameters.append(brain_parameters(cast.behavior))
                    cast.introduced = True
        if not output.rl_output.agentInfos:
            return None
        output.rl_output.side_channel = self._reports + self._own_message()
        self._reports = b""
        return output

    def listen(self, rl_input: Any) -> None:
        """Take actions and side channels."""
        self.hear(rl_input.side_channel)
        for cast in self._casts:
            cast.listen(rl_input.agent_actions[cast.behavior.name].value)

    def hear(self, data: bytes) -> None:
        """Take side channels, and note what they said."""
        for channel, content in channels.split(data):
            if channel == channels.PARAMETERS:
                parameter = channels.read_parameter(content)
                if parameter.value is not None:
                    self._parameters[parameter.name] = parameter.value
                self._book.remark("parameter", name=parameter.name, value=parameter.value)
            elif channel == channels.ENGINE:
                self._book.remark("engine", **channels.read_engine(content))
            else:
                self._book.remark("message", channel=str(channel), content=content.hex())

    def restart(self) -> None:
        """The reset that Python asks for. The parameter `seed` decides the starts from then on, if it was sent."""
        self._tick = 0
        seed = self._parameters.pop("seed", None)
        for cast in self._casts:
            if seed is not None:
                cast.seed(int(seed))
            cast.restart(self._fixed_target)
        self._book.remark("reset", seed=seed)

    def advance(self) -> None:
        """One tick."""
        for cast in self._casts:
            cast.advance(self._fixed_target)
            if self._world.statistics:
                for agent in cast.ended:
                    self._report(agent)
        self._tick += 1

    def _report(self, agent: Reacher) -> None:
        self._reports += channels.statistic("Reach/Ends", 1.0, channels.SUM)
        self._reports += channels.statistic("Reach/Index", float(agent.index), channels.AVERAGE)
        self._reports += channels.statistic("Reach/Tick", float(self._tick), channels.MOST_RECENT)

    def _own_message(self) -> bytes:
        return channels.pack(channels.OWN, b"from the game") if self._world.foreign_channel else b""
