"""Games whose agents move one after the other."""

from __future__ import annotations

import numpy as np
import pytest
from pettingzoo.utils.conversions import parallel_to_aec

from rl_framework.core.reports import EpisodeSummary
from rl_framework.envs.pettingzoo.source import PettingZooGame, aec_env_source
from rl_framework.envs.pettingzoo.turns import as_parallel
from rl_framework.errors import InvalidInputError
from tests.envs.backends import step
from tests.envs.pettingzoo.small_games import Countdown, Stage


def test_a_step_is_one_agents_turn_and_the_others_actions_are_ignored() -> None:
    environments = aec_env_source(Countdown(5)).open()
    assert environments.reset(seed=0).tolist() == [[5, 1], [5, 0]]
    taken = step(environments, [1, 0])
    assert np.asarray(taken.observations).tolist() == [[3, 0], [3, 1]]
    assert [info["active"] for info in taken.infos] == [True, False]
    taken = step(environments, [1, 0])
    assert np.asarray(taken.observations).tolist() == [[2, 1], [2, 0]]
    assert [info["active"] for info in taken.infos] == [False, True]
    assert taken.rewards.tolist() == [0, 0]


def test_masks_bind_whose_turn_it_is() -> None:
    environments = aec_env_source(Countdown(2)).open()
    environments.reset(seed=0)
    assert environments.action_masks is not None
    assert environments.action_masks.tolist() == [[True, True], [True, True]]
    step(environments, [0, 0])
    assert environments.action_masks.tolist() == [[True, True], [True, False]]


def test_both_players_learn_how_the_game_ended() -> None:
    environments = aec_env_source(Countdown(3)).open()
    environments.reset(seed=0)
    step(environments, [0, 0])
    last = step(environments, [0, 1])
    assert last.rewards.tolist() == [-1, 1]
    assert last.terminated.tolist() == [True, True]
    assert [final.tolist() for final in last.final.values()] == [[0, 1], [0, 0]]
    assert [(one.agent, one.total_reward, one.length) for one in last.episodes] == [("first", -1, 2), ("second", 1, 2)]
    assert np.asarray(last.observations).tolist() == [[3, 1], [3, 0]]


@pytest.mark.parametrize("name", ["classic/tictactoe", "classic/connect_four"])
def test_a_classic_game_is_played_to_its_end_by_legal_moves(name: str) -> None:
    environments = PettingZooGame(name).open(2, vectorization="serial")
    environments.reset(seed=0)
    rng = np.random.default_rng(0)
    ended: list[EpisodeSummary] = []
    for _ in range(80):
        allowed = environments.action_masks
        assert allowed is not None
        taken = step(environments, np.array([rng.choice(np.flatnonzero(row)) for row in allowed]))
        ended += taken.episodes
        assert [sum(info["active"] for info in taken.infos[game : game + 2]) for game in (0, 2)] == [1, 1]
    assert len(ended) >= 4
    assert all(one.total_reward in (-1, 0, 1) for one in ended)
    assert all(
        first.total_reward == -second.total_reward for first, second in zip(ended[::2], ended[1::2], strict=True)
    )
    environments.close()


def test_a_game_that_moves_in_rounds_is_played_in_rounds() -> None:
    """Its own actions are all used, so that the numbers are those of the game from which it was made."""
    here, there = PettingZooGame(parallel_to_aec(Stage())).open(), PettingZooGame(Stage()).open()
    assert np.array_equal(here.reset(seed=1), there.reset(seed=1))
    for _ in range(6):
        ours, theirs = step(here, [1, 2]), step(there, [1, 2])
        assert np.array_equal(ours.observations, theirs.observations)
        assert ours.rewards.tolist() == theirs.rewards.tolist()
        assert ours.episodes == theirs.episodes
        assert all(info["active"] for info in ours.infos)


def test_what_is_no_game_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"Expected a ParallelEnv or an AECEnv .* got 3 \(int\)"):
        as_parallel(3)
