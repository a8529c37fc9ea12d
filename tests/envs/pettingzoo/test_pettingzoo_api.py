"""PettingZoo's own tests, on what is wrapped and converted here."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from rl_framework.envs.pettingzoo.game_env import GameEnv
from rl_framework.envs.pettingzoo.names import named_game
from rl_framework.envs.pettingzoo.padding import PaddedGame
from rl_framework.envs.pettingzoo.turns import as_parallel
from tests.envs.pettingzoo.small_games import Countdown, Stage, UnlikeStage

with warnings.catch_warnings():
    # PettingZoo's tests import a game in a way that PettingZoo itself calls deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test

WIDE, NARROW = spaces.Box(-1, 1, (4,), np.float32), spaces.Box(-2, 1, (2,), np.float32)
LATE_AND_DYING = {"a": [(0, 6)], "b": [(0, 2)], "c": [(3, 5)]}
GAMES: dict[str, Any] = {
    "a game whose agents come and go": lambda: Stage(LATE_AND_DYING, 6),
    "a padded game": lambda: PaddedGame(UnlikeStage([WIDE, NARROW], [spaces.Discrete(2), spaces.Discrete(5)])),
    "a padded game of mpe": lambda: PaddedGame(named_game("mpe/simple_adversary")()),
    "a named game": named_game("mpe/simple_spread"),
    "a game with turns": lambda: as_parallel(Countdown()),
    "a classic game with turns": named_game("classic/tictactoe"),
}


@pytest.mark.parametrize("name", GAMES)
def test_pettingzoos_own_test_passes(name: str) -> None:
    with warnings.catch_warnings():
        # The test remarks on agents that come and go, which is what they are here for.
        warnings.filterwarnings("ignore", category=UserWarning, module=r"pettingzoo\.test")
        parallel_api_test(GAMES[name](), num_cycles=60)


@pytest.mark.parametrize("name", ["a padded game of mpe", "a named game"])
def test_pettingzoos_seed_test_passes(name: str) -> None:
    parallel_seed_test(GAMES[name], num_cycles=20)


def test_the_small_game_with_turns_is_a_proper_one() -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"pettingzoo\.test")
        api_test(Countdown(), num_cycles=20)


@pytest.mark.parametrize("name", ["a padded game", "a padded game of mpe", "a game with turns"])
def test_a_whole_game_is_a_proper_gymnasium_environment(name: str) -> None:
    with warnings.catch_warnings():
        # It is no registered environment, and its observations have no bounds to be normalised to.
        warnings.filterwarnings("ignore", category=UserWarning)
        check_env(GameEnv(GAMES[name]()), skip_render_check=True)
