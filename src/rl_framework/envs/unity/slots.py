"""The agents of one Unity player as rows: who asked, what it earned, which episodes ended.

Unity reports in messages that each speak of some agents only. The rules for reading them, as in Unity's own trainer:

- ends come before decisions, because one message may hold the end of an episode and the first decision of the next;
- the reward in the first decision of an episode belongs to no action and is dropped;
- the end of an agent that has not asked for a decision before is no episode and is ignored.

A row's step lasts from the moment at which its action reached the game until the agent asks again. Because all rows
step together, an agent that asks while others are still under way gets its last action once more, and its rewards are
summed. It may even end another episode meanwhile: the step carries the first end, and both are summarised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rl_framework.core.policy import BoolArray
from rl_framework.core.reports import EpisodeSummary
from rl_framework.core.unity_spaces import Array
from rl_framework.envs.unity.roster import NO_ROW, Roster

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]


class Remarks(Protocol):
    """What one message says of some agents: the columns that decisions and ends share. `[n, ...]` each."""

    obs: list[Array]
    reward: Array
    agent_id: Array
    group_id: Any
    group_reward: Array


class Decisions(Remarks, Protocol):
    """Agents that ask for an action; `action_mask` is True where a choice is forbidden, `[n, branch]` per branch."""

    action_mask: list[Array] | None


class Ends(Remarks, Protocol):
    """Agents whose episode ended; `interrupted` is True for a time limit. `[n]`"""

    interrupted: Array


class AgentSlots:
    """One row per agent.

    Args:
        roster: Gives agents their rows, R of them.
        observations: Arrays of the sensors' shapes and types, of any number of agents. `[n, *shape]` each
        n_choices: Number of choices of all branches.
        group_weight: How much a group's reward counts.

    Attributes:
        observations: What each row saw last; overwritten by the next message. `[R, *shape]` each
        allowed: Choices that each row may take. `[R, n_choices]`
        rewards: What each row earned in this step, until the end of its episode if that ended. `[R]`
        group_rewards: The part of it that its group earned, unweighted. `[R]`
        group_ids: The group of each row, 0 for none. `[R]`
        ended: Rows whose episode ended in this step. `[R]`
        interrupted: Rows of these whose episode was cut. `[R]`
        finals: What ended rows saw last, by row. `[*shape]` each
        summaries: The episodes that ended in this step.
        ready: Rows that have their next decision. `[R]`
        asking: Row of each agent that the latest message asks for; `NO_ROW` for ignored ones.
    """

    def __init__(
        self, roster: Roster, observations: Sequence[Array], n_choices: int, *, group_weight: float = 1.0
    ) -> None:
        count = roster.count
        self.roster = roster
        self.observations = [np.zeros((count, *one.shape[1:]), one.dtype) for one in observations]
        self.allowed = np.ones((count, n_choices), np.bool_)
        self.rewards, self.group_rewards = np.zeros(count), np.zeros(count)
        self.group_ids = np.zeros(count, np.int64)
        self.ended, self.interrupted = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
        self.finals: dict[int, list[Array]] = {}
        self.summaries: list[EpisodeSummary] = []
        self.ready = np.zeros(count, np.bool_)
        self.asking: Rows = np.zeros(0, np.intp)
        self._group_weight = group_weight
        self._playing, self._answered = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
        self._carried, self._carried_group = np.zeros(count), np.zeros(count)
        self.totals, self.lengths = np.zeros(count), np.zeros(count, np.int64)

    @property
    def are_fresh(self) -> bool:
        """Whether every row is at the beginning of its episode."""
        return bool(self._playing.all() and not self.lengths.any())

    def begin_episodes(self) -> None:
        """Forget the episodes under way: the game was reset, and each row waits for its first decision."""
        self.roster.release_all()
        self._playing[:] = False
        self._carried[:] = self._carried_group[:] = 0.0
        self._begin(answered=True)

    def end_opening(self) -> None:
        """Let the episodes begin: what rows earned while others had none yet belongs to their first step."""
        self._carried = np.where(self.ended, self._carried, self.rewards)
        self._carried_group = np.where(self.ended, self._carried_group, self.group_rewards)
        self.finals, self.summaries = {}, []

    def begin_step(self) -> None:
        """Let every row wait for its next decision."""
        self._begin(answered=False)
        self.lengths += 1

    def _begin(self, *, answered: bool) -> None:
        self.rewards, self.group_rewards = self._carried.copy(), self._carried_group.copy()
        self._carried[:] = self._carried_group[:] = 0.0
        self.ended, self.interrupted = np.zeros_like(self.ended), np.zeros_like(self.ended)
        self.finals, self.summaries = {}, []
        self._answered[:], self.ready[:] = answered, False

    def answered(self) -> Rows:
        """The rows of the agents that the latest message asks for, whose actions now reach the game."""
        rows: Rows = self.asking[self.asking != NO_ROW]
        self._answered[rows] = True
        return rows

    def absorb(self, decisions: Decisions, ends: Ends) -> None:
        """Read one message.

        Raises:
            EnvironmentFailure: There are more agents than rows.
        """
        if len(ends.agent_id):
            self._end(ends)
        if len(decisions.agent_id):
            self._decide(decisions)
        else:
            self.asking = np.zeros(0, np.intp)

    def _end(self, ends: Ends) -> None:
        own, group = self._earned(ends)
        for at, agent in enumerate(ends.agent_id.tolist()):
            row = self.roster.release(agent)
            if row != NO_ROW:
                self.totals[row] += own[at]
                if not self.ended[row]:
                    self.rewards[row] += own[at]
                    self.group_rewards[row] += group[at]
                    self.finals[row] = [np.array(one[at]) for one in ends.obs]
                    self.ended[row], self.interrupted[row] = True, ends.interrupted[at]
                self._close_episode(row)

    def _close_episode(self, row: int) -> None:
        total, length = float(self.totals[row]), max(1, int(self.lengths[row]))
        self.summaries.append(EpisodeSummary(row=row, total_reward=total, length=length))
        self._carried[row] = self._carried_group[row] = 0.0
        self._playing[row] = self.ready[row] = False

    def _decide(self, decisions: Decisions) -> None:
        self.asking = np.array(self.roster.seat(decisions.agent_id.tolist()), np.intp)
        own, group = self._earned(decisions)
        at: Any = slice(None)
        rows = self.asking
        if (rows == NO_ROW).any():
            at = np.flatnonzero(rows != NO_ROW)
            rows = rows[at]
        self._credit(rows, own[at], group[at])
        for shown, given in zip(self.observations, decisions.obs, strict=True):
            shown[rows] = given[at]
        if self.allowed.shape[1]:
            self.allowed[rows] = _allowed(decisions, self.allowed.shape[1])[at]
        self.group_ids[rows] = np.asarray(decisions.group_id, np.int64)[at]
        self.ready[rows] = self._answered[rows] | self.ended[rows]

    def _credit(self, rows: Rows, own: Floats, group: Floats) -> None:
        """Book what agents earned since they last asked, or begin their episodes."""
        first = ~self._playing[rows]
        own, group = np.where(first, 0.0, own), np.where(first, 0.0, group)
        self.totals[rows] = np.where(first, 0.0, self.totals[rows] + own)
        self.lengths[rows[first]] = 0
        self._playing[rows] = True
        later = self.ended[rows]  # Of the episode after the one that this step carries.
        self.rewards[rows] += np.where(later, 0.0, own)
        self.group_rewards[rows] += np.where(later, 0.0, group)
        self._carried[rows] += np.where(later, own, 0.0)
        self._carried_group[rows] += np.where(later, group, 0.0)

    def _earned(self, remarks: Remarks) -> tuple[Floats, Floats]:
        """What each agent earned, its group's part in it, and that part alone. `[n]`"""
        group = np.asarray(remarks.group_reward, np.float64)
        return np.asarray(remarks.reward, np.float64) + self._group_weight * group, group


def _allowed(decisions: Decisions, n_choices: int) -> BoolArray:
    if decisions.action_mask is None:
        return np.ones((len(decisions.agent_id), n_choices), np.bool_)
    forbidden: BoolArray = np.concatenate(decisions.action_mask, axis=1).astype(np.bool_)
    return ~forbidden
