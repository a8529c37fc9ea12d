"""Games that users hold, make or name, opened side by side."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from mpe2 import simple_spread_v3
from pettingzoo.utils import BaseParallelWrapper

from rl_framework.envs.pettingzoo import names
from rl_framework.envs.pettingzoo.names import installed_games, named_game
from rl_framework.envs.pettingzoo.source import PettingZooGame, named_source, parallel_env_source
from rl_framework.envs.source import environment_source, open_environments
from rl_framework.errors import InvalidInputError, MissingExtraError, UnknownOptionError
from tests.envs.backends import step
from tests.envs.pettingzoo.small_games import Countdown, Stage, make_stage


def test_a_name_stands_for_the_newest_version_and_takes_options() -> None:
    game = named_game("mpe/simple_spread?N=2&max_cycles=7&continuous_actions=true&local_ratio=0.25&render_mode=human")
    assert (game.family, game.module) == ("mpe", "simple_spread_v3")
    assert game.options == {
        "N": 2,
        "max_cycles": 7,
        "continuous_actions": True,
        "local_ratio": 0.25,
        "render_mode": "human",
    }
    assert named_game("mpe/simple_spread_v3").module == "simple_spread_v3"


def test_the_newest_version_is_the_greatest_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_modules", lambda family: ["old_v2", "old_v10", "old_v9", "other_v1"])
    assert names.games_of("mpe") == {"old": "old_v10", "other": "other_v1"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mpe/simple_sprd", "Did you mean 'simple_spread'"),
        ("mpe/simple_spread_v2", "Did you mean 'simple_spread_v3'"),
        ("mpee/simple_spread", "Did you mean 'mpe'"),
        ("mpe/simple_spread?M=3", "option of mpe/simple_spread_v3: 'M'.*max_cycles"),
    ],
)
def test_what_is_unknown_is_named_with_the_nearest(text: str, message: str) -> None:
    with pytest.raises(UnknownOptionError, match=message):
        named_source(text).open()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("simple_spread", "family/name"),
        ("mpe/", "family/name"),
        ("mpe/simple_spread?N", "name=value"),
        ("mpe/simple_spread?local_ratio=7", "simple_spread_v3 cannot be made with {'local_ratio': 7}"),
    ],
)
def test_names_and_options_that_make_no_sense_are_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        named_source(text).open()


def test_a_game_whose_packages_are_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mpe2.simple_tag_v3", None)
    with pytest.raises(MissingExtraError, match=r"pettingzoo\[mpe\]"):
        named_source("mpe/simple_tag").open()


def test_installed_games_are_listed_by_names_that_work() -> None:
    games = installed_games()
    assert {"mpe/simple_spread_v3", "classic/tictactoe_v3", "butterfly/pistonball_v6"} <= set(games)
    assert [named_game(name).module for name in games] == [name.partition("/")[2] for name in games]


def test_a_named_game_opens_by_the_usual_call() -> None:
    environments = open_environments("pettingzoo:mpe/simple_spread?N=2&max_cycles=5", n_envs=3, vectorization="serial")
    spec = environments.spec
    assert (spec.n_envs, spec.n_games, spec.rows_per_game) == (6, 3, 2)
    assert spec.id == "pettingzoo:mpe/simple_spread?N=2&max_cycles=5"
    environments.reset(seed=0)
    taken = [step(environments, [0] * 6) for _ in range(5)][-1]
    assert taken.truncated.all()
    picture = environments.render(3)
    assert picture is not None
    assert picture.shape[2] == 3
    environments.close()


@pytest.mark.parametrize(
    "given",
    [Stage(), Countdown(), PettingZooGame(Stage()), PettingZooGame([Stage(), Stage()]), BaseParallelWrapper(Stage())],
)
def test_games_open_by_the_usual_call(given: Any) -> None:
    source = environment_source(given)
    environments = source.open(vectorization="serial")
    assert environments.spec.n_games == source.count == (2 if isinstance(getattr(given, "game", None), list) else 1)
    assert environments.spec.id is None
    environments.close()


def test_a_game_given_is_copied_and_stays_open() -> None:
    game = Stage()
    game.brightness = 8
    source = parallel_env_source(game)
    assert source.copyable
    environments = source.open(3, vectorization="serial")
    assert environments.get_attribute("brightness") == [8] * 6
    environments.reset(seed=0)
    noise = np.asarray(environments.reset(seed=0))[::2, 3]
    assert len(set(noise.tolist())) == 3
    environments.close()
    assert game.is_open
    assert game.games == 1


def test_a_game_that_copies_itself_in_its_own_way_is_asked_for_as_a_function() -> None:
    game = simple_spread_v3.parallel_env()
    assert not parallel_env_source(game).copyable
    with pytest.raises(InvalidInputError, match=r"The game simple_spread_v3 cannot be copied\. Pass a factory"):
        parallel_env_source(game).open(2)
    assert PettingZooGame(simple_spread_v3.parallel_env).open(2, vectorization="serial").spec.n_games == 2


def test_games_made_by_a_function_are_closed_at_the_end() -> None:
    made: list[Stage] = []

    def make() -> Stage:
        made.append(Stage())
        return made[-1]

    environments = PettingZooGame(make).open(2, vectorization="serial")
    assert all(game.is_open for game in made)
    environments.close()
    assert len(made) == 2
    assert not any(game.is_open for game in made)


def test_agents_can_be_put_in_order_and_declared() -> None:
    silent = Stage()
    del silent.possible_agents
    for game in (Stage(), silent):
        assert PettingZooGame(game, agents=["b", "a"]).open().spec.row_agents == ("b", "a")
    with pytest.raises(InvalidInputError, match=r"agents \['a', 'b'\], in any order, got \['a'\]"):
        PettingZooGame(Stage(), agents=["a"]).open()


@pytest.mark.parametrize(
    ("given", "message"),
    [(3, "Expected a ParallelEnv"), ([], "empty"), ([Stage(), 3], "got 3"), (lambda: 3, "got 3")],
)
def test_what_is_no_game_is_refused(given: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        PettingZooGame(given).open()
    game = Stage()
    with pytest.raises(InvalidInputError, match="same object"):
        PettingZooGame([game, game]).open()


def test_games_travel_to_processes_of_their_own() -> None:
    here, there = (
        PettingZooGame("mpe/simple_spread?N=2").open(2, vectorization=backend) for backend in ("serial", "subprocess")
    )
    assert np.array_equal(here.reset(seed=0), there.reset(seed=0))
    assert there.spec == here.spec
    for _ in range(30):
        ours, theirs = step(here, [1, 2, 3, 4]), step(there, [1, 2, 3, 4])
        assert np.array_equal(ours.observations, theirs.observations)
        assert ours.episodes == theirs.episodes
    for environments in (here, there):
        environments.close()


def test_a_game_given_travels_as_it_is() -> None:
    game = make_stage()
    game.brightness = 8
    environments = PettingZooGame(game).open(2, vectorization="subprocess")
    assert environments.get_attribute("brightness") == [8] * 4
    environments.close()


def test_the_border_imports_no_pettingzoo() -> None:
    code = (
        "import sys, rl_framework, rl_framework.envs.source;"
        "print([m for m in ('pettingzoo', 'supersuit', 'mpe2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_pettingzoo_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['pettingzoo'] = None\n"
        "from importlib import util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, package=None: None if name == 'pettingzoo' else find(name, package)\n"
        "from rl_framework.envs.source import environment_source\n"
        "from rl_framework.errors import MissingExtraError\n"
        "try: environment_source('pettingzoo:mpe/simple_spread')\n"
        "except MissingExtraError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'rl_framework[pettingzoo]'" in done.stdout
