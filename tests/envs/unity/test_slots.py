"""Messages that speak of some agents only become rows whose rewards and ends are exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_framework.envs.unity.roster import NO_ROW, Roster
from rl_framework.envs.unity.slots import AgentSlots
from rl_framework.errors import EnvironmentFailure

LEAKED = 100.0


def decisions(*said: tuple[int, float], forbids: Sequence[bool] = (), group: tuple[int, float] = (0, 0.0)) -> Any:
    """A message's requests: (agent, reward) each; what an agent sees is its reward."""
    masks = [np.tile(np.array(forbids, np.bool_), (len(said), 1))] if forbids else None
    return SimpleNamespace(**columns(said, group), action_mask=masks)


def ends(*said: tuple[int, float], interrupted: bool = False, group: tuple[int, float] = (0, 0.0)) -> Any:
    """A message's ends: (agent, reward) each."""
    return SimpleNamespace(**columns(said, group), interrupted=np.full(len(said), interrupted))


def columns(said: Sequence[tuple[int, float]], group: tuple[int, float]) -> dict[str, Any]:
    rewards = np.array([reward for _, reward in said], np.float32)
    return {
        "obs": [rewards[:, None]],
        "reward": rewards,
        "agent_id": np.array([agent for agent, _ in said], np.int32),
        "group_id": [group[0]] * len(said),
        "group_reward": np.full(len(said), group[1], np.float32),
    }


def opened(count: int, *, n_choices: int = 0, group_weight: float = 1.0) -> AgentSlots:
    """Slots of the agents 0, 1, ..., each at its first decision."""
    slots = AgentSlots(Roster(count), [np.zeros((0, 1), np.float32)], n_choices, group_weight=group_weight)
    slots.begin_episodes()
    slots.absorb(decisions(*((agent, LEAKED) for agent in range(count))), ends())
    assert slots.ready.all()
    slots.end_opening()
    return slots


def step(slots: AgentSlots, *messages: tuple[Any, Any]) -> None:
    """One step that takes these messages, and not fewer."""
    slots.begin_step()
    for said, ended in messages:
        assert not slots.ready.all()
        slots.answered()
        slots.absorb(said, ended)
    assert slots.ready.all()


def test_the_reward_of_a_first_decision_is_dropped() -> None:
    slots = opened(2)
    step(slots, (decisions((0, 1.0), (1, 2.0)), ends()))
    np.testing.assert_array_equal(slots.rewards, [1, 2])
    np.testing.assert_array_equal(slots.observations[0], [[1], [2]])


def test_an_end_and_the_next_first_decision_share_a_message() -> None:
    slots = opened(2)
    step(slots, (decisions((0, LEAKED), (1, 2.0)), ends((0, 1.0))))
    np.testing.assert_array_equal(slots.ended, [True, False])
    np.testing.assert_array_equal(slots.rewards, [1, 2])
    np.testing.assert_array_equal(slots.finals[0][0], [1])
    np.testing.assert_array_equal(slots.observations[0][0], [LEAKED])
    (summary,) = slots.summaries
    assert (summary.row, summary.total_reward, summary.length) == (0, 1, 1)


@pytest.mark.parametrize("interrupted", [True, False])
def test_interrupted_episodes_are_told_from_finished_ones(*, interrupted: bool) -> None:
    slots = opened(1)
    step(slots, (decisions((0, LEAKED)), ends((0, 1.0), interrupted=interrupted)))
    assert slots.ended[0]
    assert slots.interrupted[0] == interrupted


def test_an_end_without_a_decision_before_it_is_no_episode() -> None:
    slots = opened(2)
    step(slots, (decisions((1, 1.0)), ends((0, 1.0))), (decisions((0, LEAKED), (1, 1.0)), ends((0, 5.0), (7, 5.0))))
    assert [one.total_reward for one in slots.summaries] == [1.0]
    np.testing.assert_array_equal(slots.rewards, [1, 2])


def test_rewards_of_an_agent_that_asks_early_are_summed() -> None:
    slots = opened(2)
    step(slots, (decisions((0, 1.0)), ends()), (decisions((0, 2.0)), ends()), (decisions((1, 5.0)), ends()))
    np.testing.assert_array_equal(slots.rewards, [3, 5])
    step(slots, (decisions((0, 4.0), (1, 6.0)), ends()), (decisions((0, 4.0), (1, 6.0)), ends()))
    np.testing.assert_array_equal(slots.rewards, [8, 12])


def test_a_row_is_ready_only_after_its_own_action_took_effect() -> None:
    """The agent 0 was answered with its former action before this step, and must not be taken for ready too early."""
    slots = opened(2)
    step(slots, (decisions((0, 1.0)), ends()), (decisions((1, 1.0)), ends()))
    slots.begin_step()
    np.testing.assert_array_equal(slots.answered(), [1])
    slots.absorb(decisions((0, 2.0)), ends())
    assert not slots.ready[0]
    np.testing.assert_array_equal(slots.answered(), [0])
    slots.absorb(decisions((0, 3.0)), ends())
    assert slots.ready[0]


def test_two_ends_in_one_step_are_both_summarised_and_the_first_is_carried() -> None:
    slots = opened(2)
    step(
        slots,
        (decisions((0, LEAKED)), ends((0, 1.0))),
        (decisions((0, 2.0)), ends()),
        (decisions((0, LEAKED)), ends((0, 3.0), interrupted=True)),
        (decisions((0, 7.0), (1, 5.0)), ends()),
    )
    assert [(one.row, one.total_reward) for one in slots.summaries] == [(0, 1), (0, 5)]
    np.testing.assert_array_equal(slots.rewards, [1, 5])
    assert not slots.interrupted[0]
    np.testing.assert_array_equal(slots.finals[0][0], [1])
    step(slots, (decisions((0, 1.0), (1, 0.0)), ends()))
    assert slots.rewards[0] == 8  # what the new episode earned while the other agent was waited for


def test_lengths_count_steps() -> None:
    slots = opened(1)
    for _ in range(3):
        step(slots, (decisions((0, 1.0)), ends()))
    step(slots, (decisions((0, LEAKED)), ends((0, 1.0))))
    assert slots.summaries[0].length == 4
    assert slots.are_fresh


def test_what_a_group_earns_counts_with_its_weight() -> None:
    slots = opened(1, group_weight=0.5)
    step(slots, (decisions((0, 1.0), group=(3, 4.0)), ends()))
    step(slots, (decisions((0, LEAKED), group=(3, LEAKED)), ends((0, 1.0), group=(3, 2.0))))
    assert (slots.rewards[0], slots.group_rewards[0], slots.group_ids[0]) == (2, 2, 3)
    assert slots.summaries[0].total_reward == 1 + 2 + 1 + 1


def test_masks_are_turned_around() -> None:
    slots = opened(1, n_choices=3)
    assert slots.allowed.all()
    step(slots, (decisions((0, 1.0), forbids=[True, False, False]), ends()))
    np.testing.assert_array_equal(slots.allowed, [[False, True, True]])


def test_a_reset_forgets_what_was_under_way() -> None:
    slots = opened(2)
    step(slots, (decisions((0, 1.0), (1, 1.0)), ends()))
    slots.begin_episodes()
    slots.absorb(decisions((1, LEAKED)), ends())
    assert not slots.ready.all()
    slots.absorb(decisions((0, LEAKED), (1, 3.0)), ends())
    slots.end_opening()
    assert slots.are_fresh
    step(slots, (decisions((0, 1.0), (1, 1.0)), ends()))
    np.testing.assert_array_equal(slots.rewards, [1, 4])


def test_ids_come_back_to_their_rows() -> None:
    roster = Roster(3)
    assert roster.seat([10, 11, 12]) == [0, 1, 2]
    assert roster.release(12) == 2
    assert roster.release(10) == 0
    assert roster.seat([10, 12]) == [0, 2]
    assert roster.ids == [10, 11, 12]


def test_a_new_id_takes_the_row_that_is_free_the_longest() -> None:
    roster = Roster(3)
    roster.seat([10, 11, 12])
    roster.release(12)
    roster.release(10)
    assert roster.seat([20]) == [2]
    assert roster.seat([12]) == [0]
    assert roster.seat([20, 11, 12]) == [2, 1, 0]


def test_a_new_id_leaves_a_row_to_its_former_agent_in_the_same_message() -> None:
    roster = Roster(2)
    roster.seat([10, 11])
    roster.release(10)
    roster.release(11)
    assert roster.seat([20, 10]) == [1, 0]


def test_an_agent_too_many_is_refused_or_ignored() -> None:
    with pytest.raises(EnvironmentFailure, match=r"agent 12 asked .* all 2 rows .* population grew .* max_agents=2"):
        Roster(2).seat([10, 11, 12])
    lenient = Roster(2, ignores_more=True)
    assert lenient.seat([10, 11, 12]) == [0, 1, NO_ROW]
    assert lenient.release(12) == NO_ROW
    assert lenient.seat([12, 11]) == [NO_ROW, 1]


def test_an_agent_that_was_ignored_gets_no_row_in_the_middle_of_its_episode() -> None:
    roster = Roster(1, ignores_more=True)
    assert roster.seat([10, 11]) == [0, NO_ROW]
    roster.release(10)
    assert roster.seat([11]) == [NO_ROW]
    roster.release(11)
    assert roster.seat([11, 10]) == [NO_ROW, 0]
    roster.release(10)
    roster.release(11)
    assert roster.seat([11]) == [0]
    assert roster.seat([10]) == [NO_ROW]
    roster.release_all()
    assert roster.seat([10]) == [0]


@dataclass
class World:
    """Agents that ask, end, and come back by chance, and a slow account of what they did."""

    random: np.random.Generator
    count: int
    fresh_ids: bool
    ids: list[int] = field(default_factory=list)
    next_id: int = 0
    earned: dict[int, list[float]] = field(default_factory=dict)
    episodes: list[float] = field(default_factory=list)

    def message(self) -> tuple[Any, Any]:
        """What the agents say now, written down one by one."""
        if not self.ids:
            self.ids = list(range(self.count))
            self.next_id = self.count
        asked, ended = [], []
        for place in self.random.permutation(self.count):
            agent, event = self.ids[place], self.random.choice(["asks", "ends", "is silent"], p=[0.5, 0.25, 0.25])
            reward = float(self.random.integers(1, 9))
            if event == "ends":
                ended.append((agent, reward))
                if agent in self.earned:
                    self.episodes.append(sum(self.earned.pop(agent)) + reward)
                agent = self._return(place)
                event, reward = self.random.choice(["asks", "is silent"]), LEAKED
            if event == "asks":
                is_first = agent not in self.earned
                asked.append((agent, LEAKED if is_first else reward))
                self.earned.setdefault(agent, []).append(0.0 if is_first else reward)
        return decisions(*asked), ends(*ended)

    def _return(self, place: int) -> int:
        if self.fresh_ids:
            self.ids[place], self.next_id = self.next_id, self.next_id + 1
        return self.ids[place]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 5), fresh_ids=st.booleans())
def test_rows_agree_with_an_account_kept_agent_by_agent(seed: int, count: int, *, fresh_ids: bool) -> None:
    world = World(np.random.default_rng(seed), count, fresh_ids)
    slots = AgentSlots(Roster(count), [np.zeros((0, 1), np.float32)], 0)
    slots.begin_episodes()
    while not slots.ready.all():
        slots.absorb(*world.message())
    slots.end_opening()
    world.episodes.clear()
    summarised: list[float] = []
    sums = np.zeros(count)
    for _ in range(20):
        slots.begin_step()
        while not slots.ready.all():
            slots.answered()
            slots.absorb(*world.message())
        sums += slots.rewards
        for row in np.flatnonzero(slots.ended).tolist():
            first = next(one for one in slots.summaries if one.row == row)
            assert sums[row] == first.total_reward
            sums[row] = 0.0
        summarised += [one.total_reward for one in slots.summaries]
    assert sorted(summarised) == sorted(world.episodes)
