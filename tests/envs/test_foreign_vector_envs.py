"""Vector environments of gymnasium and stable_baselines3, against our own on the same environments."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecFrameStack, VecMonitor

from rl_framework.core.trees import leaves
from rl_framework.envs.source import open_environments
from rl_framework.envs.vector_env import StateLevel, VectorEnv, VectorStep
from rl_framework.errors import EnvironmentFailure, InvalidInputError, InvalidNumberError, RLFrameworkError
from rl_framework.testing.environments import AnySpaceEnv, CountingEnv, InvalidNumberEnv, MaskedCorridor, RaisingEnv

Make = Callable[[], gym.Env[Any, Any]]


def make_short() -> CountingEnv:
    """Three steps, then an ending."""
    return CountingEnv((3,), render_mode="rgb_array")


def make_long() -> CountingEnv:
    """Four or five steps, then a time limit."""
    return CountingEnv((4, 5), "truncated", render_mode="rgb_array")


def make_both() -> CountingEnv:
    """Ends in both ways at once."""
    return CountingEnv((4,), "both")


FOREIGN: dict[str, Callable[[list[Make]], Any]] = {
    "next step": lambda made: SyncVectorEnv(made, autoreset_mode=AutoresetMode.NEXT_STEP),
    "same step": lambda made: SyncVectorEnv(made, autoreset_mode=AutoresetMode.SAME_STEP),
    "disabled": lambda made: SyncVectorEnv(made, autoreset_mode=AutoresetMode.DISABLED),
    "async next step": lambda made: AsyncVectorEnv(made, autoreset_mode=AutoresetMode.NEXT_STEP),
    "async same step": lambda made: AsyncVectorEnv(made, autoreset_mode=AutoresetMode.SAME_STEP),
    "dummy": DummyVecEnv,
    "subproc": lambda made: SubprocVecEnv(made, start_method="fork"),
}


def take(environments: VectorEnv, actions: Any) -> VectorStep:
    """One step."""
    environments.send(actions)
    return environments.recv()


def play(environments: VectorEnv, n_steps: int = 13) -> list[Any]:
    """What a fixed number of steps gave, without the random number in each observation."""
    width = environments.spec.n_envs
    log: list[Any] = [np.asarray(environments.reset(seed=4))[:, :2].tolist()]
    for _ in range(n_steps):
        environments.send(np.arange(width) % 2)
        step = environments.recv()
        log.append(np.asarray(step.observations)[:, :2].tolist())
        log.append([step.rewards.tolist(), step.terminated.tolist(), step.truncated.tolist()])
        log.append({row: final[:2].tolist() for row, final in step.final.items()})
        log.append([dict(info) for info in step.infos])
        log.append([(one.row, one.total_reward, one.length, one.success) for one in step.episodes])
    return log


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_every_kind_gives_the_same_steps_as_ours_and_no_others(kind: str) -> None:
    made: list[Make] = [make_short, make_long]
    foreign = FOREIGN[kind](made)
    assert play(open_environments(foreign)) == play(open_environments([make() for make in made]))
    foreign.close()


@pytest.mark.parametrize("kind", ["next step", "same step", "disabled"])
def test_an_end_in_both_ways_keeps_both_flags(kind: str) -> None:
    assert play(open_environments(FOREIGN[kind]([make_both]))) == play(open_environments(make_both()))


@pytest.mark.parametrize("kind", ["next step", "same step", "disabled", "dummy"])
@pytest.mark.parametrize("make", [MaskedCorridor, lambda: gym.make("Taxi-v4")], ids=["method", "info"])
def test_masks_follow_the_current_observations(kind: str, make: Make) -> None:
    foreign = FOREIGN[kind]([make, make])
    environments = open_environments(foreign)
    environments.reset(seed=1)
    assert environments.spec.has_action_masks
    rng = np.random.default_rng(0)
    ended = 0
    for _ in range(230):
        assert environments.action_masks is not None
        environments.send(np.array([rng.choice(np.flatnonzero(row)) for row in environments.action_masks]))
        ended += len(environments.recv().episodes)
        for row, env in enumerate(foreign.envs):
            expected = env.get_wrapper_attr(
                "action_masks" if isinstance(env.unwrapped, MaskedCorridor) else "action_mask"
            )
            given = expected() if isinstance(env.unwrapped, MaskedCorridor) else expected(env.unwrapped.s)
            assert np.array_equal(environments.action_masks[row], np.asarray(given, np.bool_))
    assert ended > 1


def test_a_vector_environment_that_cannot_be_translated_honestly_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"CartPoleVectorEnv resets finished rows in the step after.*sync"):
        open_environments(gym.make_vec("CartPole-v1", 2, vectorization_mode="vector_entry_point"))


def test_one_that_does_not_say_how_it_goes_on_is_refused() -> None:
    foreign = SyncVectorEnv([CountingEnv])
    foreign.metadata = {}
    with pytest.raises(InvalidInputError, match="autoreset_mode"):
        open_environments(foreign)


@pytest.mark.parametrize("kind", ["same step", "dummy"])
def test_it_stays_open_and_cannot_be_scheduled(kind: str) -> None:
    foreign = FOREIGN[kind]([make_short])
    environments = open_environments(foreign)
    assert not environments.spec.seeds_episodes
    with pytest.raises(InvalidInputError, match="seeded one by one"):
        environments.reset_to_schedule([[1]])
    environments.close()
    foreign.reset()


@pytest.mark.parametrize(
    "foreign",
    [
        lambda: VecMonitor(DummyVecEnv([make_short])),
        lambda: gym.wrappers.vector.RecordEpisodeStatistics(
            SyncVectorEnv([make_short], autoreset_mode=AutoresetMode.SAME_STEP)
        ),
    ],
)
def test_with_wrappers_around_all_rows_it_says_approximate(foreign: Callable[[], Any]) -> None:
    environments = open_environments(foreign())
    environments.reset(seed=0)
    state = environments.get_state()
    assert state.level is StateLevel.APPROXIMATE
    assert environments.set_state(state).shape == (1, 3)


def test_wrappers_of_stable_baselines_shape_the_last_observation_too() -> None:
    environments = open_environments(VecFrameStack(DummyVecEnv([make_short]), 2))
    environments.reset(seed=0)
    step = [take(environments, np.zeros(1, np.int64)) for _ in range(3)][-1]
    assert step.final[0].shape == (6,)
    assert step.final[0][[1, 4]].tolist() == [2, 3]


@pytest.mark.parametrize("kind", ["same step", "async same step", "dummy"])
def test_methods_attributes_and_pictures_are_reached(kind: str) -> None:
    foreign = FOREIGN[kind]([make_long, make_long])
    environments = open_environments(foreign)
    environments.reset(seed=0)
    environments.set_attribute("lengths", (2,), rows=[1])
    assert environments.get_attribute("lengths") == [(4, 5), (2,)]
    assert [picture.shape for picture in environments.call("render")] == [(32, 48, 3)] * 2
    picture = environments.render(1)
    assert picture is not None
    assert picture.shape == (32, 48, 3)
    foreign.close()


@pytest.mark.parametrize("kind", ["next step", "same step", "dummy"])
def test_failures_and_invalid_numbers_are_ours(kind: str) -> None:
    environments = open_environments(FOREIGN[kind]([CountingEnv, lambda: InvalidNumberEnv(1)]))
    environments.reset(seed=0)
    environments.send(np.zeros(2, np.int64))
    environments.recv()
    environments.send(np.zeros(2, np.int64))
    with pytest.raises(InvalidNumberError) as caught:
        environments.recv()
    assert (caught.value.row, caught.value.step) == (1, 2)
    with pytest.raises(RLFrameworkError, match="closed"):
        environments.reset()
    raising = open_environments(FOREIGN[kind]([lambda: RaisingEnv(0)]))
    raising.reset(seed=0)
    raising.send(np.zeros(1, np.int64))
    with pytest.raises(EnvironmentFailure, match="ZeroDivisionError"):
        raising.recv()


@pytest.mark.parametrize("kind", ["next step", "same step", "dummy"])
def test_nests_of_observations_travel(kind: str) -> None:
    space = gym.spaces.Dict({"a": gym.spaces.Box(-1, 1, (2,)), "b": gym.spaces.Discrete(3)})
    make = partial(AnySpaceEnv, space, gym.spaces.MultiDiscrete([2, 3]), 2)
    environments = open_environments(FOREIGN[kind]([make, make]))
    observations = environments.reset(seed=0)
    assert [leaf.shape for leaf in leaves(observations)] == [(2, 2), (2,)]
    step = [take(environments, np.array([[0, 2], [1, 0]])) for _ in range(2)][-1]
    assert sorted(step.final) == [0, 1]
    assert step.final[0]["a"].shape == (2,)
