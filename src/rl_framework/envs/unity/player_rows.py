"""One Unity player whose agents are rows: opening, resetting, stepping, starting anew."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from rl_framework.core.policy import BoolArray
from rl_framework.core.reports import EpisodeSummary
from rl_framework.core.unity_spaces import Array
from rl_framework.envs.unity.launch import UnityLaunch
from rl_framework.envs.unity.others import Continuous, Discrete, OtherAgents
from rl_framework.envs.unity.roster import NO_ROW, Roster
from rl_framework.envs.unity.settings import UnitySettings
from rl_framework.envs.unity.slots import AgentSlots, Floats
from rl_framework.envs.unity.spaces import actions_of, find_behavior, observations_of, unknown_behavior
from rl_framework.errors import (
    EnvironmentFailure,
    UnityFailure,
    UnityPortInUse,
    UnityVersionMismatch,
)

logger = logging.getLogger(__name__)

LONGEST_PERIOD = 20
"""The highest decision period that Unity lets an agent have, in steps of the game; no message takes less than one."""


class Player(Protocol):
    """A Unity player after the handshake; see `envs.unity.player.UnityPlayer`."""

    @property
    def behaviors(self) -> Mapping[str, Any]:
        """The `BehaviorSpec` of each behaviour that the game has shown."""
        ...

    def reset(self) -> None:
        """Restart every agent of the scene."""
        ...

    def steps(self, behavior: str) -> tuple[Any, Any]:
        """The decisions and ends of the latest message."""
        ...

    def act(self, behavior: str, continuous: Continuous | None, discrete: Discrete | None) -> None:
        """Answer the decisions of the latest message, in their order. `[n, c]`, `[n, branches]`"""
        ...

    def exchange(self) -> None:
        """Send the answers and wait for the next message."""
        ...

    def set_parameter(self, name: str, value: float) -> None:
        """Set an environment parameter."""
        ...

    def drain_statistics(self) -> dict[str, float]:
        """What the game recorded since the last call."""
        ...

    def close(self) -> None:
        """End the player."""
        ...


StartPlayer = Callable[[UnityLaunch, Sequence[Any]], Player]


@dataclass(frozen=True, kw_only=True, slots=True)
class RowsStep:
    """What one step of a player's rows gave, in Unity's form.

    Attributes:
        observations: What each row saw last. `[R, *shape]` per sensor
        rewards: `[R]`
        terminated: `[R]`
        truncated: `[R]`
        finals: What ended rows saw last, by row. `[*shape]` per sensor
        infos: One dict per row.
        summaries: The episodes that ended.
    """

    observations: Sequence[Array]
    rewards: Floats
    terminated: BoolArray
    truncated: BoolArray
    finals: Mapping[int, Sequence[Array]]
    infos: Sequence[Mapping[str, Any]]
    summaries: Sequence[EpisodeSummary]


class PlayerRows:
    """A player, opened at once, and the rows of its agents.

    Args:
        settings: The game, and how its agents become rows.
        launch: How this player is started.
        start: Starts a player.

    Attributes:
        first_row: Where its rows begin among those of all players.
        index: Which of the players it is.
        count: Number of rows, R.
        observations: Form of the observations.
        actions: Form of the actions.
        has_forbidden: Whether the game had forbidden any choice by the time it was opened.
        n_replaced: Forbidden choices that were replaced.
        n_restarts: How often the player was started anew after a failure.
    """

    def __init__(self, settings: UnitySettings, launch: UnityLaunch, start: StartPlayer) -> None:
        self._settings, self._launch, self._start = settings, launch, start
        self.first_row = 0
        self._others = OtherAgents(settings.others, launch.seed)
        self.index = launch.index
        self.n_replaced, self.n_restarts = 0, 0
        self.has_forbidden = False
        self._player: Player | None = None
        self._parameters: dict[str, float] = {}
        self._launch_player()

    @property
    def player(self) -> Player:
        """The player that runs now."""
        if self._player is None:
            raise EnvironmentFailure("the player is closed.", row=self.first_row)
        return self._player

    @property
    def shown(self) -> Sequence[Array]:
        """What each row sees now, in arrays that the next message overwrites. `[R, *shape]` per sensor"""
        return self._slots.observations

    @property
    def allowed(self) -> BoolArray:
        """Choices that each row may take now; the next message overwrites it. `[R, n_choices]`"""
        return self._slots.allowed

    def place(self, first_row: int) -> None:
        """Say where the rows begin among those of all players."""
        self.first_row = self._slots.roster.first_row = first_row

    def reset(self, *, hard: bool = False) -> None:
        """Open an episode in every row; those that are at its beginning stay there unless it is a hard reset."""
        try:
            if hard or not self._slots.are_fresh:
                self._reset_player()
        except UnityFailure as failure:
            self._start_again(failure)

    def start_anew(self, seed: int) -> None:
        """Start the player again with another seed."""
        self._launch = replace(self._launch, seed=seed)
        self._launch_player(self.count)

    def set_parameter(self, name: str, value: float) -> None:
        """Set an environment parameter, of players that are started anew later as well."""
        self.player.set_parameter(name, value)
        self._parameters[name] = value

    def step(self, continuous: Continuous, discrete: Discrete) -> RowsStep:
        """Act in every row and wait until each has its next decision.

        Args:
            continuous: `[R, c]`
            discrete: `[R, branches]`

        Raises:
            EnvironmentFailure: The player failed more often than it may be started anew.
        """
        try:
            self._slots.begin_step()
            self._run(continuous, discrete)
            return self._collect()
        except UnityFailure as failure:
            return self._cut_off(failure)

    def close(self) -> None:
        """End the player; calling it twice is fine."""
        player, self._player = self._player, None
        if player is not None:
            player.close()

    # Opening

    def _launch_player(self, count: int | None = None) -> None:
        """Start the player, in place of the one before, and open episodes; it stays closed if that fails.

        Args:
            count: Number of rows that it has to have, if that is known.
        """
        self.close()
        channels = self._settings.side_channels
        self._player = self._start(self._launch, () if channels is None else tuple(channels(self._launch.index)))
        try:
            for name, value in self._parameters.items():
                self._player.set_parameter(name, value)
            self._meet(count)
        except BaseException:
            self.close()
            raise

    def _meet(self, count: int | None) -> None:
        """Learn what the player's agents see and do, and how many there are."""
        self.player.reset()
        self._behavior = self._await_behavior()
        spec = self.player.behaviors[self._behavior]
        self.observations, self.actions = observations_of(spec, self._settings), actions_of(spec, self._settings)
        found, went_on = self._count_agents()
        if count is not None and found != count:
            raise EnvironmentFailure(
                f"the player has {found} agents now that it was started anew; there were {count}.", row=self.first_row
            )
        self.count = found
        roster = Roster(found, ignores_more=self._settings.max_agents is not None)
        roster.first_row = self.first_row
        decisions, _ = self.player.steps(self._behavior)
        weight = self._settings.group_weight
        self._slots = AgentSlots(roster, decisions.obs, self.actions.n_choices, group_weight=weight)
        self._reset_player(exchanges=went_on)

    def _await_behavior(self) -> str:
        """Let the game go on until the behaviour that is learned shows up."""
        wanted = self._settings.behavior
        for _ in range(self._settings.respawn_limit):
            name = find_behavior(wanted, self.player.behaviors)
            if name is not None:
                return name
            self._answer_others(None)
            self.player.exchange()
        raise unknown_behavior(wanted, self.player.behaviors)

    def _count_agents(self) -> tuple[int, bool]:
        """How many agents become rows, and whether the game went on meanwhile.

        Agents may ask one after the other, and some more often than others: those count that are there at a time
        within as many messages as the longest decision period has steps.
        """
        present: set[int] = set()
        seen: set[int] = set()
        most, count, has_second_turn = self._settings.max_agents, 0, False
        for exchanges in range(self._settings.respawn_limit):
            decisions, ends = self.player.steps(self._behavior)
            asking, ended = set(decisions.agent_id.tolist()), set(ends.agent_id.tolist())
            self.has_forbidden |= any(bool(part.any()) for part in decisions.action_mask or ())
            present = (present - ended) | asking
            count = max(count, len(present))
            if most is not None and count >= most:
                return most, exchanges > 0
            has_second_turn |= bool(seen & (asking | ended))
            if has_second_turn and exchanges >= LONGEST_PERIOD:
                return count, True
            seen |= asking
            self._answer_others(self._behavior)
            self.player.exchange()
        if has_second_turn:
            return count, True
        raise EnvironmentFailure(
            f"no agent of {self._behavior!r} asked for a second decision within {self._settings.respawn_limit} "
            f"messages of the player ({len(seen)} asked once). Raise respawn_limit if they need longer.",
            row=self.first_row,
        )

    # Stepping

    def _reset_player(self, *, exchanges: bool = True) -> None:
        if exchanges:
            self.player.reset()
        self._slots.begin_episodes()
        self._absorb()
        count = self.count
        if not self._slots.ready.all():
            nothing = np.zeros((count, self.actions.continuous_size), np.float32)
            self._run(nothing, np.zeros((count, len(self.actions.branches)), np.int32))
        self._slots.end_opening()

    def _run(self, continuous: Continuous, discrete: Discrete) -> None:
        """Exchange messages until every row has its next decision."""
        for _ in range(self._settings.respawn_limit):
            self._answer(continuous, discrete)
            self._answer_others(self._behavior)
            self.player.exchange()
            self._absorb()
            if self._slots.ready.all():
                return
        waiting = np.flatnonzero(~self._slots.ready)
        agents = [self._slots.roster.ids[row] for row in waiting.tolist()]
        raise EnvironmentFailure(
            f"{len(waiting)} of {self.count} agents did not ask for a decision within {self._settings.respawn_limit} "
            f"messages of the player (ids {agents[:10]}). Raise respawn_limit if they come back later, or set "
            "max_agents to leave agents out that never do.",
            row=self.first_row + int(waiting[0]),
        )

    def _absorb(self) -> None:
        decisions, ends = self.player.steps(self._behavior)
        self._slots.absorb(decisions, ends)

    def _answer(self, continuous: Continuous, discrete: Discrete) -> None:
        asking = self._slots.asking
        if not len(asking):
            return
        rows = self._slots.answered()
        chosen, n_replaced = self.actions.permit(discrete[rows], self._slots.allowed[rows])
        self.n_replaced += n_replaced
        if len(rows) == len(asking):
            self.player.act(self._behavior, continuous[rows], chosen)
        else:
            self._answer_some(asking != NO_ROW, continuous[rows], chosen)

    def _answer_some(self, learned: BoolArray, continuous: Continuous, discrete: Discrete) -> None:
        """Answer agents that are rows among others that are not."""
        decisions, _ = self.player.steps(self._behavior)
        name, spec = self._behavior, self.player.behaviors[self._behavior]
        all_continuous, all_discrete = self._others.act(name, spec, decisions)
        all_continuous[learned], all_discrete[learned] = continuous, discrete
        self.player.act(name, all_continuous, all_discrete)

    def _answer_others(self, learned: str | None) -> None:
        """Answer the agents of all behaviours but one; those that get no answer stand still."""
        if self._others.stand_still:
            return
        for name in self.player.behaviors:
            decisions, _ = self.player.steps(name)
            if name != learned and len(decisions.agent_id):
                self.player.act(name, *self._others.act(name, self.player.behaviors[name], decisions))

    # Giving

    def _collect(self) -> RowsStep:
        slots = self._slots
        return RowsStep(
            observations=slots.observations,
            rewards=slots.rewards,
            terminated=slots.ended & ~slots.interrupted,
            truncated=slots.interrupted,
            finals=slots.finals,
            infos=self._infos(),
            summaries=slots.summaries,
        )

    def _infos(self) -> list[Mapping[str, Any]]:
        slots = self._slots
        infos: list[Mapping[str, Any]] = [{"agent_id": agent} for agent in slots.roster.ids]
        for row in np.flatnonzero(slots.group_ids).tolist():
            group = float(slots.group_rewards[row])
            infos[row] = {
                **infos[row],
                "group_id": int(slots.group_ids[row]),
                "group_reward": group,
                "individual_reward": float(slots.rewards[row]) - self._settings.group_weight * group,
            }
        return infos

    def _cut_off(self, failure: UnityFailure) -> RowsStep:
        """Start a failed player again; episodes that had not ended are cut where they were last seen."""
        old, running = self._slots, np.flatnonzero(~self._slots.ended).tolist()
        cut = [
            EpisodeSummary(row=row, total_reward=float(old.totals[row]), length=int(old.lengths[row]))
            for row in running
        ]
        self._start_again(failure)
        return RowsStep(
            observations=self._slots.observations,
            rewards=old.rewards,
            terminated=old.ended & ~old.interrupted,
            truncated=old.interrupted | ~old.ended,
            finals={**old.finals, **{row: [one[row].copy() for one in old.observations] for row in running}},
            infos=[{**info, "restarted": True} for info in self._infos()],
            summaries=[*old.summaries, *cut],
        )

    def _start_again(self, failure: UnityFailure) -> None:
        """Start a player that failed anew, as often as that is allowed."""
        while True:
            if self.n_restarts >= self._settings.restarts or isinstance(failure, UnityVersionMismatch | UnityPortInUse):
                raise failure
            self.n_restarts += 1
            logger.warning("Unity player %d is started anew after: %s", self._launch.index, failure)
            try:
                self.start_anew((self._launch.seed + self._settings.n_players) % 2**31)  # No other player's seed.
                return
            except UnityFailure as next_failure:
                failure = next_failure
