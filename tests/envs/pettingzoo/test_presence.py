"""Agents that die, are born late, come back, or are gone at the end; whose actions count, and how rows end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rl_framework.envs.pettingzoo.vector_env import PettingZooVectorEnv
from rl_framework.envs.vector_env import VectorStep
from rl_framework.errors import EnvironmentFailure, InvalidInputError
from tests.envs.backends import step
from tests.envs.pettingzoo.small_games import Stage, Stays

DYING: Stays = {"a": [(0, 4)], "b": [(0, 2)]}
LATE: Stays = {"a": [(0, 4)], "b": [(2, 4)]}
RETURNING: Stays = {"a": [(0, 6)], "b": [(0, 2), (4, 6)]}


def play(game: Stage, steps: int) -> tuple[PettingZooVectorEnv, list[VectorStep]]:
    """A game of one copy, in which place k always chooses k + 1."""
    environments = PettingZooVectorEnv([game])
    environments.reset(seed=1)
    return environments, [step(environments, [1, 2]) for _ in range(steps)]


def seen(taken: list[VectorStep], row: int) -> list[list[float]]:
    """Steps and place that a row sees, step by step."""
    return [np.asarray(one.observations)[row, 1:3].tolist() for one in taken]


def test_each_agent_is_a_row_of_its_own() -> None:
    environments = PettingZooVectorEnv([Stage(), Stage()])
    spec = environments.spec
    assert (spec.n_envs, spec.rows_per_game, spec.n_games) == (4, 2, 2)
    assert spec.row_agents == ("a", "b", "a", "b")
    assert spec.render_fps == 12
    start = environments.reset(seed=5)
    assert start[:, 2].tolist() == [1, 2, 1, 2]
    assert start[0, 3] == start[1, 3] != start[2, 3]
    taken = step(environments, [0, 1, 2, 0])
    assert taken.rewards.tolist() == [1, 11, 1, 11]
    given = environments.get_attribute("given", rows=[1, 2])
    assert given == [[{"a": 0, "b": 1}], [{"a": 2, "b": 0}]]


def test_rows_of_a_game_end_together_with_their_true_last_observations() -> None:
    _, taken = play(Stage(), 5)
    last, following = taken[3], taken[4]
    assert last.truncated.tolist() == [True, True]
    assert [last.final[row][:3].tolist() for row in (0, 1)] == [[0, 4, 1], [0, 4, 2]]
    assert np.asarray(last.observations)[:, :3].tolist() == [[1, 0, 1], [1, 0, 2]]
    assert not following.final
    summaries = [(one.row, one.agent, one.total_reward, one.length, one.success) for one in last.episodes]
    assert summaries == [(0, "a", 10.0, 4, True), (1, "b", 50.0, 4, False)]


def test_a_dead_agents_row_waits_for_the_end_and_ends_terminated() -> None:
    environments, taken = play(Stage(DYING), 4)
    assert seen(taken[:3], 1) == [[1, 2], [0, 0], [0, 0]]
    assert [one.rewards[1] for one in taken] == [11, 12, 0, 0]
    assert [one.infos[1]["active"] for one in taken] == [True, True, False, False]
    assert environments.get_attribute("given")[0][2] == {"a": 1}
    last = taken[3]
    assert (last.terminated.tolist(), last.truncated.tolist()) == ([False, True], [True, False])
    assert not last.final[1].any()
    assert last.final[0][1] == 4
    assert [(one.total_reward, one.length) for one in last.episodes] == [(10.0, 4), (23.0, 4)]


def test_an_agent_that_is_born_late_sees_nothing_before() -> None:
    environments, taken = play(Stage(LATE, is_cut=False), 4)
    assert seen(taken[:3], 1) == [[0, 0], [2, 2], [3, 2]]
    assert [one.rewards[1] for one in taken] == [0, 0, 13, 14]
    assert [one.infos[1]["active"] for one in taken] == [False, False, True, True]
    assert taken[3].terminated.tolist() == [True, True]
    assert [list(given) for given in environments.get_attribute("given")[0]] == [["a"], ["a"], ["a", "b"], ["a", "b"]]


def test_an_agent_that_returns_goes_on_in_the_same_episode() -> None:
    environments, taken = play(Stage(RETURNING, length=6), 6)
    assert [one.rewards[1] for one in taken] == [11, 12, 0, 0, 15, 16]
    assert seen(taken[:5], 1) == [[1, 2], [0, 0], [0, 0], [4, 2], [5, 2]]
    assert not any(one.final for one in taken[:5])
    last = taken[5]
    assert last.truncated.tolist() == [True, True]
    assert not last.terminated.any()
    assert [one.total_reward for one in last.episodes] == [21.0, 54.0]
    assert environments.present.tolist() == [True, True]


@pytest.mark.parametrize(
    ("stays", "is_cut", "ends"),
    [
        ({"a": [(0, 3)], "b": [(0, 3)]}, True, "cc"),
        ({"a": [(0, 3)], "b": [(0, 3)]}, False, "tt"),
        ({"a": [(0, 1)], "b": [(0, 3)]}, True, "tc"),
        ({"a": [(0, 1)], "b": [(0, 3)]}, False, "tt"),
        ({"a": [(0, 3)], "b": [(9, 9)]}, True, "cc"),
        ({"a": [(0, 3)], "b": [(9, 9)]}, False, "tt"),
        ({"a": [(0, 1), (2, 3)], "b": [(0, 3)]}, True, "cc"),
        ({"a": [(0, 2)], "b": [(0, 1)]}, True, "tt"),
    ],
)
def test_each_row_ends_as_its_agent_did(stays: Stays, is_cut: bool, ends: str) -> None:
    _, taken = play(Stage(stays, length=3, is_cut=is_cut), 3)
    last = next(one for one in taken if one.final)
    assert last.terminated.tolist() == [end == "t" for end in ends]
    assert last.truncated.tolist() == [end == "c" for end in ends]


def test_a_game_that_only_empties_its_list_of_agents_has_ended_by_itself() -> None:
    _, taken = play(Stage(says_ends=False), 4)
    assert taken[3].terminated.tolist() == [True, True]


class Lingering(Stage):
    """A game that keeps its agents in the list when they are done."""

    def step(self, actions: Any) -> Any:
        results = super().step(actions)
        self.agents = list(self.possible_agents)
        return results


def test_a_game_whose_agents_are_all_done_has_ended_even_if_it_still_lists_them() -> None:
    _, taken = play(Lingering(), 5)
    assert taken[3].truncated.tolist() == [True, True]
    assert seen(taken[3:], 0) == [[0, 1], [1, 1]]


def test_an_agent_that_was_not_declared_is_named() -> None:
    game = Stage(LATE)
    game.possible_agents = ["a"]
    environments = PettingZooVectorEnv([game])
    environments.reset(seed=0)
    step(environments, [0])
    with pytest.raises(EnvironmentFailure, match="agent 'b' takes part"):
        step(environments, [0])


def test_games_need_to_declare_their_agents() -> None:
    game = Stage()
    del game.possible_agents
    with pytest.raises(InvalidInputError, match="agents="):
        PettingZooVectorEnv([game])


def test_games_with_other_agents_cannot_be_copies_of_each_other() -> None:
    with pytest.raises(InvalidInputError, match=r"Game 1 has the agents \['b', 'a'\]"):
        PettingZooVectorEnv([Stage(), Stage({"b": [(0, 4)], "a": [(0, 4)]})])


def test_the_same_game_twice_is_refused() -> None:
    game = Stage()
    with pytest.raises(InvalidInputError, match="same object"):
        PettingZooVectorEnv([game, game])
    with pytest.raises(InvalidInputError, match="empty"):
        PettingZooVectorEnv([])
