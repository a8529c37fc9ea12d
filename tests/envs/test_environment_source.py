"""What users call environments, and what they get told when it is none."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from rl_framework.envs.serial import SerialVectorEnv
from rl_framework.envs.source import environment_source, open_environments
from rl_framework.envs.subprocess import SubprocessVectorEnv
from rl_framework.errors import EnvironmentFailure, InvalidInputError, SpaceError, UnknownOptionError
from rl_framework.testing.environments import AnySpaceEnv, CountingEnv


class ClosableEnv(CountingEnv):
    """Knows whether it was closed."""

    is_closed = False

    def close(self) -> None:
        """Note it."""
        self.is_closed = True


@pytest.mark.parametrize(
    ("given", "count", "copyable"),
    [
        (lambda: "CartPole-v1", 1, True),
        (CountingEnv, 1, True),
        (lambda: [CountingEnv(), CountingEnv()], 2, True),
        (lambda: (CountingEnv(), CountingEnv()), 2, True),
        (lambda: CountingEnv, 1, True),
        (lambda: [CountingEnv, partial(CountingEnv, (3,))], 2, True),
        (lambda: ["CartPole-v1", partial(gym.make, "CartPole-v1")], 2, True),
        (lambda: gym.make_vec("CartPole-v1", 3, vectorization_mode="sync"), 3, False),
    ],
)
def test_everything_that_users_hold_can_be_opened(given: Any, count: int, copyable: bool) -> None:
    source = environment_source(given())
    assert (source.count, source.copyable) == (count, copyable)
    environments = source.open()
    environments.reset(seed=0)
    environments.send(np.zeros(count, np.int64))
    assert environments.recv().rewards.tolist() == [1.0] * count
    environments.close()


@pytest.mark.parametrize("given", ["CartPole-v1", CountingEnv, [CountingEnv(), CountingEnv()]])
def test_any_number_of_copies(given: Any) -> None:
    environments = open_environments(given, n_envs=5)
    observations = environments.reset()
    assert environments.spec.n_envs == 5
    assert len(np.unique(observations[:, 2])) == 5


def test_fewer_than_given() -> None:
    assert open_environments([CountingEnv(), CountingEnv()], n_envs=1).spec.n_envs == 1


def test_given_environments_stay_open_and_copies_do_not() -> None:
    given = ClosableEnv()
    environments = open_environments(given, n_envs=2)
    assert isinstance(environments, SerialVectorEnv)
    environments.close()
    assert [env.is_closed for env in environments.environments] == [False, True]  # type: ignore[attr-defined]  # Ours.


def test_environments_made_from_factories_are_closed() -> None:
    environments = open_environments([ClosableEnv, ClosableEnv])
    assert isinstance(environments, SerialVectorEnv)
    environments.close()
    assert all(env.is_closed for env in environments.environments)  # type: ignore[attr-defined]  # Ours.


def test_what_is_open_already_passes_through_and_stays_open() -> None:
    inner = open_environments([CountingEnv, CountingEnv])
    environments = open_environments(inner)
    environments.reset(seed=0)
    environments.close()
    inner.send(np.zeros(2, np.int64))
    assert inner.recv().rewards.tolist() == [1.0, 1.0]


def test_an_environment_that_pickles_itself_is_made_anew_from_its_specification() -> None:
    pytest.importorskip("mujoco")
    source = environment_source(gym.make("Reacher-v5"))
    assert not source.copyable
    environments = source.open(2)
    observations = environments.reset()
    assert not np.array_equal(observations[0], observations[1])


class EzCountingEnv(gym.utils.EzPickle, CountingEnv):
    """Copies itself by making itself anew."""

    def __init__(self) -> None:
        gym.utils.EzPickle.__init__(self)
        CountingEnv.__init__(self)


@pytest.mark.parametrize("vectorization", ["serial", "subprocess"])
def test_without_a_specification_such_an_environment_cannot_be_copied(vectorization: str) -> None:
    with pytest.raises(InvalidInputError, match=r"cannot be copied. Pass a factory"):
        open_environments(EzCountingEnv(), n_envs=2, vectorization=vectorization)


def test_a_wrapper_that_the_specification_leaves_out_is_not_lost() -> None:
    wrapped = PlainWrapper(EzCountingEnv())
    with pytest.raises(InvalidInputError, match="cannot be copied"):
        open_environments(wrapped, n_envs=2)


class PlainWrapper(gym.Wrapper[Any, Any, Any, Any]):
    """A wrapper that no specification knows."""


def test_vectorization_can_be_chosen() -> None:
    environments = open_environments([CountingEnv, CountingEnv], vectorization="subprocess")
    assert isinstance(environments, SubprocessVectorEnv)
    environments.close()
    assert isinstance(open_environments(CountingEnv, vectorization="serial"), SerialVectorEnv)


@pytest.mark.parametrize("given", [[], ()])
def test_an_empty_list_is_refused(given: Any) -> None:
    with pytest.raises(InvalidInputError, match="empty"):
        open_environments(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, r"Expected a gymnasium environment.*got 3 \(int\)"),
        (None, "NoneType"),
        ([CountingEnv(), 3], "Element 0"),
        ([CountingEnv, 3], r"Element 1.*3 \(int\)"),
    ],
)
def test_what_is_no_environment_is_named(given: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        open_environments(given)


@pytest.mark.parametrize(
    ("given", "message"), [("CartPoole-v1", "CartPole"), ("CartPole-v7", "v1"), ("nowhere:Env-v0", "nowhere")]
)
def test_an_unknown_id_is_refused_with_a_suggestion(given: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=f"no environment '{given}'.*{message}"):
        open_environments(given)


def test_different_spaces_are_named_with_environment_and_field() -> None:
    small = spaces.Dict({"camera": spaces.Box(0, 255, (4, 4, 3), np.uint8)})
    large = spaces.Dict({"camera": spaces.Box(0, 255, (8, 8, 3), np.uint8)})
    given = [AnySpaceEnv(space, spaces.Discrete(2)) for space in (small, small, large)]
    with pytest.raises(SpaceError, match=r"observation space of environment 2.*camera"):
        open_environments(given)
    with pytest.raises(SpaceError, match="action space of environment 1"):
        open_environments([AnySpaceEnv(small, spaces.Discrete(n)) for n in (2, 3)])


def test_spaces_without_a_fixed_shape_are_refused() -> None:
    with pytest.raises(SpaceError, match="observation space has a Text"):
        open_environments(AnySpaceEnv(spaces.Text(4), spaces.Discrete(2)))


def test_the_same_environment_twice_is_refused() -> None:
    env = CountingEnv()
    with pytest.raises(InvalidInputError, match="0 and 1 are the same object"):
        open_environments([env, gym.wrappers.TimeLimit(env, 3)])
    with pytest.raises(InvalidInputError, match="0 and 1 are the same object"):
        open_environments(lambda: env, n_envs=2)


@pytest.mark.parametrize("n_envs", [0, -1, 1.5, True])
def test_a_number_of_environments_out_of_range_is_refused(n_envs: Any) -> None:
    with pytest.raises(InvalidInputError, match="n_envs must be a whole number above 0"):
        open_environments("CartPole-v1", n_envs=n_envs)


def test_an_unknown_vectorization_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UnknownOptionError, match="Did you mean 'subprocess'"):
        open_environments("CartPole-v1", vectorization="subproces")


def test_a_timeout_out_of_range_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="timeout"):
        open_environments("CartPole-v1", timeout=0)


def test_what_runs_already_is_neither_multiplied_nor_moved() -> None:
    inner = open_environments([CountingEnv, CountingEnv])
    with pytest.raises(InvalidInputError, match="n_envs=3"):
        open_environments(inner, n_envs=3)
    with pytest.raises(InvalidInputError, match="vectorization='serial'"):
        open_environments(inner, vectorization="serial")


def test_a_factory_that_makes_no_environment_is_named() -> None:
    with pytest.raises(InvalidInputError, match="factory of environment 1 returned 3"):
        open_environments([CountingEnv, lambda: 3], vectorization="serial")


def test_a_factory_that_raises_is_named_and_the_others_are_closed() -> None:
    made: list[ClosableEnv] = []

    def make() -> ClosableEnv:
        made.append(ClosableEnv())
        return made[-1]

    def fail() -> CountingEnv:
        raise OSError("no such robot")

    with pytest.raises(EnvironmentFailure, match="Environment 1: making it raised OSError: no such robot"):
        open_environments([make, fail], vectorization="serial")
    assert made[0].is_closed


def test_an_environment_of_the_old_gym_gets_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    old = ModuleType("gym.core")
    exec("class Env:\n    pass", vars(old))
    monkeypatch.setitem(sys.modules, "gym.core", old)
    with pytest.raises(InvalidInputError, match=r"old package gym.*gymnasium"):
        open_environments(vars(old)["Env"]())


def test_opening_environments_imports_neither_torch_nor_stable_baselines_nor_what_plays_games() -> None:
    code = (
        "import sys; from rl_framework.envs.source import open_environments;"
        "open_environments('CartPole-v1', n_envs=2);"
        "foreign = ('torch', 'stable_baselines3', 'pettingzoo', 'supersuit', 'mpe2', 'mlagents_envs', 'grpc');"
        "print([name for name in foreign if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


# ----------------------------------------------------------------------------------------------- games


def test_a_source_is_taken_as_it_is() -> None:
    source = environment_source(CountingEnv)
    assert environment_source(source) is source


def test_games_are_named_by_a_prefix() -> None:
    pytest.importorskip("mpe2")
    pytest.importorskip("mlagents_envs")
    game = environment_source("pettingzoo:mpe/simple_spread")
    assert (game.count, game.copyable, game.is_costly) == (1, True, False)
    unity = environment_source("unity:path/to/Game")
    assert (unity.count, unity.copyable, unity.is_costly) == (1, True, True)
    assert not environment_source("unity:editor").copyable


@pytest.mark.parametrize("verb", ["parallel_env", "env"])
def test_games_that_a_user_holds_are_rows_of_agents(verb: str) -> None:
    simple_spread = pytest.importorskip("mpe2.simple_spread_v3")
    make = getattr(simple_spread, verb)
    assert open_environments(make()).spec.n_envs == 3
    spec = open_environments([make(), make()]).spec
    assert (spec.n_envs, spec.n_games, spec.rows_per_game) == (6, 2, 3)
    named = open_environments("pettingzoo:mpe/simple_spread", n_envs=2, vectorization="serial").spec
    assert (named.n_envs, named.id) == (6, "pettingzoo:mpe/simple_spread")


def test_what_gives_rows_of_its_own_is_no_element_of_a_list() -> None:
    for given in ("unity:path/to/Game", "pettingzoo:mpe/simple_spread", "tensor:CartPole", environment_source(dict)):
        with pytest.raises(InvalidInputError, match=r"Element 1 .*rows of its own. Pass it without the list"):
            open_environments(["CartPole-v1", given])


def test_a_factory_of_games_gets_a_hint() -> None:
    simple_spread = pytest.importorskip("mpe2.simple_spread_v3")
    with pytest.raises(InvalidInputError, match=r"not a gymnasium.Env. Pass what it returns without the factory"):
        open_environments(simple_spread.parallel_env)


def test_games_without_their_extra_say_which_one() -> None:
    code = (
        "import sys; sys.modules['pettingzoo'] = None; from rl_framework.envs.source import environment_source;"
        "environment_source('pettingzoo:mpe/simple_spread')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "MissingExtraError" in done.stderr
    assert "rl_framework[pettingzoo]" in done.stderr
