from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rl_framework.envs.pettingzoo.shared_game import SharedGames
from rl_framework.envs.pettingzoo.turns import as_parallel
from rl_framework.envs.vector_env import VectorStep
from rl_framework.errors import EnvironmentFailure, InvalidInputError, RLFrameworkError, SpaceError
from tests.envs.pettingzoo.small_games import Countdown
from tests.envs.pettingzoo.uneven_games import Hunt

GROUPS = {"hunter": ["hunter"], "hares": ["hare_0", "hare_1"]}


def step(shared: SharedGames, n_games: int, *, hunter: int = 0, hare: float = 0.0) -> dict[str, VectorStep]:
    shared.act("hunter", np.full(n_games, hunter))
    shared.act("hares", np.full((2 * n_games, 1), hare, np.float32))
    shared.advance()
    return {name: view.recv() for name, view in shared.views.items()}


def test_every_group_has_rows_of_its_own_agents_and_spaces() -> None:
    shared = SharedGames([Hunt(), Hunt()], GROUPS)
    hunter, hares = shared.views["hunter"].spec, shared.views["hares"].spec
    assert (hunter.n_envs, hunter.row_agents, hunter.rows_per_game) == (2, ("hunter",) * 2, 1)
    assert (hares.n_envs, hares.row_agents) == (4, ("hare_0", "hare_1") * 2)
    assert (hunter.observation_space.shape, hares.observation_space.shape) == ((2,), (1,))


def test_the_game_is_opened_once_for_all_groups_and_stepped_with_all_actions() -> None:
    games = [Hunt(), Hunt()]
    shared = SharedGames(games, GROUPS)
    for view in shared.views.values():
        view.reset(5)
    step(shared, 2, hunter=2, hare=0.5)
    for game in games:
        assert len(game.seeds) == 1
        assert game.played == [{"hunter": 2, "hare_0": np.float32(0.5), "hare_1": np.float32(0.5)}]
    assert games[0].seeds != games[1].seeds


def test_the_next_game_begins_for_all_groups_at_once() -> None:
    game = Hunt(length=3)
    shared = SharedGames([game], GROUPS)
    for view in shared.views.values():
        view.reset(0)
    last = [step(shared, 1) for _ in range(3)][-1]
    assert all(taken.truncated.all() and not taken.terminated.any() for taken in last.values())
    assert last["hunter"].observations.tolist() == [[0.0, 2.0]]
    assert last["hares"].final[1].tolist() == [3.0]
    assert [each.total_reward for each in last["hares"].episodes] == [6.0, 9.0]
    assert [each.agent for each in last["hares"].episodes] == ["hare_0", "hare_1"]
    assert len(game.seeds) == 2
    following = step(shared, 1)
    assert following["hares"].observations.tolist() == [[1.0], [1.0]]
    assert following["hunter"].observations.tolist() == [[1.0, 2.0]]


def test_a_group_that_is_dead_waits_for_the_others() -> None:
    shared = SharedGames([Hunt(deaths=(1, 2), length=4, ends_alone=False)], GROUPS)
    for view in shared.views.values():
        view.reset(0)
    taken = [step(shared, 1) for _ in range(4)]
    assert [each["hares"].rewards.tolist() for each in taken] == [[2.0, 3.0], [0.0, 3.0], [0.0, 0.0], [0.0, 0.0]]
    assert [each["hunter"].rewards.tolist() for each in taken] == [[1.0]] * 4
    assert not any((each["hares"].terminated | each["hares"].truncated).any() for each in taken[:3])
    assert taken[2]["hares"].observations.tolist() == [[0.0], [0.0]]
    assert taken[3]["hares"].terminated.tolist() == [True, True]
    assert taken[3]["hunter"].truncated.tolist() == [True]
    assert [(each.total_reward, each.length) for each in taken[3]["hares"].episodes] == [(2.0, 4), (6.0, 4)]


def test_a_group_that_is_not_born_yet_waits_for_its_birth() -> None:
    shared = SharedGames([Hunt(birth=2, length=3, ends_alone=False)], GROUPS)
    assert [view.reset(0).tolist() for view in shared.views.values()] == [[[0.0, 1.0]], [[0.0], [0.0]]]
    taken = [step(shared, 1) for _ in range(3)]
    assert [each["hares"].rewards.tolist() for each in taken] == [[0.0, 0.0], [2.0, 3.0], [2.0, 3.0]]
    assert [each["hares"].observations.tolist() for each in taken[:2]] == [[[0.0], [0.0]], [[2.0], [2.0]]]
    assert taken[2]["hares"].truncated.tolist() == [True, True]


def test_a_group_that_waits_may_do_anything() -> None:
    shared = SharedGames([Hunt(deaths=(1, 1), length=4, ends_alone=False, masked=True)], GROUPS)
    for view in shared.views.values():
        view.reset(0)
    assert masks(shared) == [[False, True]] * 2
    for _ in range(2):
        shared.act("hunter", np.zeros(1, np.int64))
        shared.act("hares", np.ones(2, np.int64))
        shared.advance()
        for view in shared.views.values():
            view.recv()
        assert masks(shared) == [[True, True]] * 2
    assert shared.views["hunter"].action_masks is None


def masks(shared: SharedGames) -> Any:
    given = shared.views["hares"].action_masks
    return None if given is None else given.tolist()


def test_a_game_that_ends_by_itself_ends_for_all() -> None:
    shared = SharedGames([Hunt(deaths=(2, 2), length=9)], GROUPS)
    for view in shared.views.values():
        view.reset(0)
    step(shared, 1)
    last = step(shared, 1)
    assert all(taken.terminated.all() and not taken.truncated.any() for taken in last.values())


def test_a_schedule_gives_every_group_the_same_games_and_then_rest() -> None:
    game = Hunt(length=2)
    shared = SharedGames([game], GROUPS)
    shared.views["hunter"].reset_to_schedule([[7, 8]])
    shared.views["hares"].reset_to_schedule([[7, 8], [7, 8]])
    seeds = [each.seed for _ in range(4) for taken in step(shared, 1).values() for each in taken.episodes]
    assert seeds == [7, 7, 7, 8, 8, 8]
    assert game.seeds == [7, 8]
    n_steps = len(game.played)
    resting = step(shared, 1)
    assert len(game.played) == n_steps
    assert all(not taken.rewards.any() and not taken.episodes for taken in resting.values())


def test_a_group_that_says_nothing_is_named() -> None:
    shared = SharedGames([Hunt()], GROUPS)
    for view in shared.views.values():
        view.reset(0)
    shared.act("hunter", np.zeros(1, np.int64))
    with pytest.raises(RLFrameworkError, match="hares"):
        shared.advance()


@pytest.mark.parametrize("actions", [np.zeros((3, 1), np.float32), np.zeros(2, np.float32), "left"])
def test_actions_of_another_shape_are_refused_before_anything_moves(actions: Any) -> None:
    game = Hunt()
    shared = SharedGames([game], GROUPS)
    for view in shared.views.values():
        view.reset(0)
    with pytest.raises(InvalidInputError):
        shared.act("hares", actions)
    assert game.played == []


def test_a_group_of_agents_with_different_spaces_is_refused() -> None:
    with pytest.raises(SpaceError, match="hare_0"):
        SharedGames([Hunt()], {"all": ["hunter", "hare_0", "hare_1"]})


def test_what_counts_in_a_game_with_turns_is_told_of_the_step_that_was_taken() -> None:
    shared = SharedGames([as_parallel(Countdown(5))], {"first": ["first"], "second": ["second"]})
    for view in shared.views.values():
        view.reset(0)
    for expected in ([True, False], [False, True]):
        for name in shared.views:
            shared.act(name, np.zeros(1, np.int64))
        shared.advance()
        assert [view.recv().infos[0]["active"] for view in shared.views.values()] == expected


def test_what_a_group_that_waits_does_counts_for_nothing() -> None:
    shared = SharedGames([Hunt(deaths=(2, 2), length=4, ends_alone=False)], GROUPS)
    for view in shared.views.values():
        view.reset(0)
    told = [[info["active"] for info in step(shared, 1)["hares"].infos] for _ in range(4)]
    assert told == [[True, True]] * 2 + [[False, False]] * 2


class Faulty(Hunt):
    """A hunt that goes wrong in its third step: it raises, or lets a stranger in."""

    def __init__(self, stranger: str | None) -> None:
        super().__init__()
        self.stranger = stranger

    def step(self, actions: dict[str, Any]) -> Any:
        if self.step_count == 2 and self.stranger is None:
            raise ValueError("out of order")
        results = super().step(actions)
        if self.step_count == 2 and self.stranger is not None:
            self.agents = [*self.agents, self.stranger]
        return results


@pytest.mark.parametrize(
    ("stranger", "message"), [(None, "step 3 .* ValueError: out of order"), ("fox", "step 3 .* agent 'fox' takes part")]
)
def test_what_goes_wrong_in_a_game_is_told_as_its_failure(stranger: str | None, message: str) -> None:
    shared = SharedGames([Hunt(), Faulty(stranger)], GROUPS)
    for view in shared.views.values():
        view.reset(0)
    for _ in range(2):
        step(shared, 2)
    with pytest.raises(EnvironmentFailure, match=f"Environment 1, {message}"):
        step(shared, 2)
