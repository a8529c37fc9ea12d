"""Environments go on, bit for bit, in an environment made anew; where they cannot, they say so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import wrappers

from rl_framework.core.trees import leaves
from rl_framework.envs.serial import SerialVectorEnv
from rl_framework.envs.state import capture, restore
from rl_framework.envs.vector_env import EnvironmentState, StateLevel
from rl_framework.errors import EnvironmentFailure, RLFrameworkError
from rl_framework.testing.environments import CountingEnv

Make = Callable[[], gym.Env[Any, Any]]

IDS = [
    "CartPole-v1",
    "Pendulum-v1",
    "FrozenLake-v1",
    "CliffWalking-v1",
    "Taxi-v4",
    "Blackjack-v1",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "Acrobot-v1",
]
MUJOCO = ["HalfCheetah-v5", "Ant-v5", "Hopper-v5", "Humanoid-v5", "Pusher-v5"]
WRAPPED: dict[str, Make] = {
    "NormalizeObservation": lambda: wrappers.NormalizeObservation(gym.make("Pendulum-v1")),
    "NormalizeReward": lambda: wrappers.NormalizeReward(gym.make("Pendulum-v1")),
    "FrameStackObservation": lambda: wrappers.FrameStackObservation(gym.make("CartPole-v1"), 3),
    "ClipAction": lambda: wrappers.ClipAction(gym.make("Pendulum-v1")),
    "RecordEpisodeStatistics": lambda: wrappers.RecordEpisodeStatistics(gym.make("CartPole-v1")),
    "TimeAwareObservation": lambda: wrappers.TimeAwareObservation(gym.make("CartPole-v1")),
    "StickyAction": lambda: wrappers.StickyAction(gym.make("CartPole-v1"), 0.3),
    "TimeLimit": lambda: wrappers.TimeLimit(gym.make("MountainCar-v0"), 30),
}


def drive(environments: SerialVectorEnv, n_steps: int, seed: int) -> list[Any]:
    """Everything that some random steps gave."""
    space = environments.spec.action_space
    space.seed(seed)
    taken = []
    for _ in range(n_steps):
        environments.send(np.stack([space.sample() for _ in range(environments.spec.n_envs)]))
        step = environments.recv()
        taken.append([*leaves(step.observations), step.rewards, step.terminated, step.truncated])
    return taken


def is_plain(tree: Any) -> bool:
    """Whether a tree holds nothing but what may be written to a file."""
    if isinstance(tree, dict):
        return all(isinstance(key, str) and is_plain(part) for key, part in tree.items())
    if isinstance(tree, (list, tuple)):
        return all(is_plain(part) for part in tree)
    if isinstance(tree, np.ndarray):
        return not tree.dtype.hasobject
    return type(tree) in (type(None), bool, int, float, str) or isinstance(tree, np.generic)


def assert_goes_on_exactly(make: Make, n_before: int = 37, n_after: int = 250) -> None:
    """Capture in the middle of an episode, restore in an environment made anew, and compare what follows."""
    environments = SerialVectorEnv([make(), make()], owned=True)
    environments.reset(seed=3)
    before = drive(environments, n_before, 0)
    state = environments.get_state()
    assert state.level is StateLevel.EXACT
    assert is_plain(state.rows)
    elsewhere = SerialVectorEnv([make(), make()], owned=True)
    observations = elsewhere.set_state(state)
    assert all(np.array_equal(one, other) for one, other in zip(leaves(observations), before[-1], strict=False))
    expected, given = drive(environments, n_after, 1), drive(elsewhere, n_after, 1)
    for one, other in zip(expected, given, strict=True):
        assert all(np.array_equal(first, second) for first, second in zip(one, other, strict=True))
    environments.close()
    elsewhere.close()


@pytest.mark.parametrize("env_id", IDS)
def test_ordinary_environments_are_exact(env_id: str) -> None:
    assert_goes_on_exactly(lambda: gym.make(env_id))


@pytest.mark.parametrize("name", WRAPPED)
def test_wrappers_are_exact(name: str) -> None:
    assert_goes_on_exactly(WRAPPED[name])


@pytest.mark.parametrize("env_id", MUJOCO)
def test_mujoco_is_exact(env_id: str) -> None:
    pytest.importorskip("mujoco")
    assert_goes_on_exactly(lambda: gym.make(env_id), n_after=120)


def test_a_changed_mujoco_model_travels() -> None:
    pytest.importorskip("mujoco")
    one, other = gym.make("Hopper-v5"), gym.make("Hopper-v5")
    one.reset(seed=0)
    one.unwrapped.model.body_mass[1] = 9.0  # type: ignore[attr-defined]  # A MuJoCo environment has a model.
    other.reset(seed=1)
    restore(other, capture(one)[1])
    assert other.unwrapped.model.body_mass[1] == 9.0  # type: ignore[attr-defined]  # As above.


def lunar_lander() -> SerialVectorEnv:
    """One environment whose world is hidden in Box2D."""
    pytest.importorskip("Box2D")
    return SerialVectorEnv([gym.make("LunarLander-v3")], owned=True)


def until_episode_end(environments: SerialVectorEnv) -> Any:
    """Step until an episode ends; the observation that opens the next."""
    while True:
        environments.send(np.array([2]))
        step = environments.recv()
        if step.episodes:
            return step.observations


def test_box2d_is_exact_at_an_episode_boundary() -> None:
    environments = lunar_lander()
    environments.reset(seed=3)
    opening = until_episode_end(environments)
    state = environments.get_state()
    assert state.level is StateLevel.EPISODE_BOUNDARY
    assert is_plain(state.rows)
    elsewhere = lunar_lander()
    assert np.array_equal(elsewhere.set_state(state), opening)
    for expected, given in zip(drive(environments, 300, 1), drive(elsewhere, 300, 1), strict=True):
        assert all(np.array_equal(one, other) for one, other in zip(expected, given, strict=True))


def test_box2d_is_exact_at_the_first_seeded_reset() -> None:
    environments, elsewhere = lunar_lander(), lunar_lander()
    opening = environments.reset(seed=3)
    assert np.array_equal(elsewhere.set_state(environments.get_state()), opening)


def test_box2d_within_an_episode_says_approximate_and_starts_a_new_one() -> None:
    environments, elsewhere = lunar_lander(), lunar_lander()
    environments.reset(seed=3)
    drive(environments, 5, 0)
    state = environments.get_state()
    assert state.level is StateLevel.APPROXIMATE
    elsewhere.set_state(state)
    assert elsewhere.get_state().level is StateLevel.EPISODE_BOUNDARY


def test_the_level_is_that_of_the_worst_row() -> None:
    hidden = HidingEnv()
    environments = SerialVectorEnv([CountingEnv((3,)), hidden], owned=True)
    environments.reset(seed=0)
    environments.send(np.zeros(2, np.int64))
    environments.recv()
    assert environments.get_state().level is StateLevel.APPROXIMATE


class HidingEnv(CountingEnv):
    """Keeps part of its state in a generator function, which nobody can look into."""

    def __init__(self, lengths: tuple[int, ...] = (3,)) -> None:
        super().__init__(lengths)
        self.hidden = (number for number in range(1000))


class HookedEnv(HidingEnv):
    """Hides its state, but hands it out on request."""

    def get_state(self) -> dict[str, Any]:
        """Where it is."""
        return {"episode": self.episode, "step": self.step_count, "random": self.np_random.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go there."""
        self.episode, self.step_count = state["episode"], state["step"]
        self.np_random.bit_generator.state = state["random"]


def test_an_environments_own_hooks_make_it_exact_also_below_wrappers() -> None:
    assert_goes_on_exactly(lambda: wrappers.TimeLimit(HookedEnv((9,)), 5), n_after=30)


class SettingOnlyEnv(HidingEnv):
    """Has a `set_state` as MuJoCo environments do, which is no hook alone."""

    def set_state(self, position: Any, velocity: Any) -> None:
        """Not what it looks like."""
        raise AssertionError("not to be called")


def test_set_state_without_get_state_is_no_hook() -> None:
    environments = SerialVectorEnv([SettingOnlyEnv()], owned=True)
    environments.reset(seed=0)
    environments.set_state(environments.get_state())


def test_a_state_of_another_environment_is_refused() -> None:
    environments = SerialVectorEnv([gym.make("CartPole-v1")], owned=True)
    environments.reset(seed=0)
    other = SerialVectorEnv([wrappers.TimeLimit(gym.make("CartPole-v1"), 10)], owned=True)
    with pytest.raises(EnvironmentFailure, match="The state is one of"):
        other.set_state(environments.get_state())


def test_nothing_of_a_captured_state_changes_afterwards() -> None:
    env = gym.make("Pendulum-v1")
    env.reset(seed=0)
    tree = capture(env)[1]
    kept = repr(tree)
    for _ in range(3):
        env.step(env.action_space.sample())
    assert repr(tree) == kept


def test_a_restored_environment_shares_nothing_with_the_tree() -> None:
    env = gym.make("CartPole-v1")
    env.reset(seed=0)
    tree = capture(env)[1]
    kept = repr(tree)
    restore(env, tree)
    for _ in range(3):
        env.step(0)
    assert repr(tree) == kept


def test_a_state_says_which_attribute_does_not_fit() -> None:
    env = CountingEnv()
    env.reset(seed=0)
    tree = capture(env)[1]
    tree["attributes"][0]["episode"] = {"kind": "object", "class": "os:stat_result", "attributes": {}, "id": 99}
    with pytest.raises(RLFrameworkError, match=r"'episode'.*os:stat_result"):
        restore(env, tree)


def test_resting_rows_stay_at_rest_in_a_state() -> None:
    environments = SerialVectorEnv([CountingEnv((1,))], owned=True)
    environments.reset_to_schedule([[4]])
    environments.send(np.zeros(1, np.int64))
    environments.recv()
    state = EnvironmentState(level=StateLevel.EXACT, rows=environments.get_state().rows)
    elsewhere = SerialVectorEnv([CountingEnv((1,))], owned=True)
    elsewhere.set_state(state)
    elsewhere.send(np.zeros(1, np.int64))
    assert elsewhere.recv().rewards.tolist() == [0.0]
