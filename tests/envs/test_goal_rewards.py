"""Rewards as functions of goals: those on the device, those of environments, and how they are found."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.vec_env import DummyVecEnv

from rl_framework.algorithms.host_access import HostAccessRefused
from rl_framework.envs.borrowed import BorrowedVectorEnv
from rl_framework.envs.goal_rewards import (
    DistanceReward,
    EnvironmentReward,
    MatchReward,
    find_goal_reward,
    random_goals,
)
from rl_framework.envs.goal_tasks.bit_flipping import BitFlipping
from rl_framework.envs.goal_tasks.point_maze import PointMaze2D
from rl_framework.envs.source import open_environments
from rl_framework.envs.tensor_vector_env import TensorVectorEnv
from rl_framework.envs.vector_tensor_env import VectorTensorEnv
from rl_framework.errors import EnvironmentFailure, InvalidInputError, SpaceError
from rl_framework.testing.environments import BitFlipping as WholeBits
from tests.envs.goal_environments import (
    BrokenEnv,
    CoordinatesEnv,
    DenseEnv,
    FalseThresholdEnv,
    ForbiddenEnv,
    MuddledEnv,
    PaysOneEnv,
    PointEnv,
    SilentEnv,
    SingleEnv,
    ThresholdEnv,
)


def goal_space(env: gym.Env[Any, Any]) -> Any:
    """Of one goal."""
    space: Any = env.observation_space
    return space["achieved_goal"]


def pairs(count: int = 500, width: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Goals within and beyond the radius of the small environments. `[count, width]` each"""
    generator = torch.Generator().manual_seed(0)
    desired = torch.randn(count, width, generator=generator)
    return desired + 0.25 * torch.randn(count, width, generator=generator), desired


@given(st.integers(1, 5), st.integers(0, 2**31), st.floats(0.01, 3.0))
def test_distance_rewards_are_those_of_a_loop(width: int, seed: int, threshold: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    achieved, desired = torch.randn(2, 50, width, generator=generator)
    rewards = DistanceReward(threshold)(achieved, desired)
    for row in range(50):
        distance = math.dist(achieved[row].tolist(), desired[row].tolist())
        if abs(distance - threshold) > 1e-5:
            assert rewards[row] == (0.0 if distance <= threshold else -1.0)


def test_match_rewards_need_all_numbers() -> None:
    achieved = torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    desired = torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
    assert MatchReward()(achieved, desired).tolist() == [0.0, -1.0, -1.0]


@pytest.mark.parametrize("reward", [DistanceReward(0.3), MatchReward()])
def test_rewards_on_the_device_never_wait_for_the_host(reward: Any) -> None:
    achieved, desired = pairs()
    with HostAccessRefused(torch.device("cpu")):
        rewards = reward(achieved, desired)
    assert rewards.dtype == torch.float32
    assert reward.is_capturable


@pytest.mark.parametrize(
    ("env_class", "takes_batches"), [(PointEnv, True), (DenseEnv, True), (SingleEnv, False), (MuddledEnv, False)]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_environments_are_asked_as_they_can_answer(env_class: Any, takes_batches: bool, dtype: Any) -> None:
    env = env_class(dtype)
    reward = EnvironmentReward(env.compute_reward, goal_space(env))
    assert reward.takes_batches == takes_batches
    assert not reward.is_capturable
    achieved, desired = pairs()
    rewards = reward(achieved, desired)
    one_by_one = [
        float(env.compute_reward(a.astype(dtype), d.astype(dtype), {}))
        for a, d in zip(achieved.numpy(), desired.numpy(), strict=True)
    ]
    assert rewards.dtype == torch.float32
    assert torch.allclose(rewards, torch.tensor(one_by_one), rtol=1e-6, atol=1e-7)
    assert len(set(rewards.tolist())) > 1


def test_no_pairs_of_goals_have_no_rewards() -> None:
    for env in (PointEnv(), SingleEnv()):
        reward = EnvironmentReward(env.compute_reward, goal_space(env))
        assert reward(torch.zeros(0, 2), torch.zeros(0, 2)).shape == (0,)


def test_an_environment_that_cannot_compute_rewards_is_named_with_its_error() -> None:
    env = BrokenEnv()
    with pytest.raises(EnvironmentFailure, match=r"compute_reward raised KeyError: 'distance'.*shape \(2,\)"):
        EnvironmentReward(env.compute_reward, goal_space(env))


def test_random_goals_are_of_the_space_and_partly_equal() -> None:
    space = gym.spaces.Box(-2.0, 3.0, (4,), np.float32)
    achieved, desired = random_goals(space, 30)
    assert all(space.contains(goal) for goals in (achieved, desired) for goal in goals)
    assert (achieved == desired).all(1).tolist() == [row % 3 == 0 for row in range(30)]
    assert np.array_equal(random_goals(space, 30)[0], achieved)


ONE_PROCESS: dict[str, Callable[[], Any]] = {
    "serial": lambda: open_environments([ThresholdEnv(), ThresholdEnv()]),
    "borrowed": lambda: BorrowedVectorEnv(open_environments(ThresholdEnv())),
    "as tensors": lambda: VectorTensorEnv(open_environments(ThresholdEnv())),
    "of Gymnasium": lambda: open_environments(gym.vector.SyncVectorEnv([ThresholdEnv])),
    "of SB3": lambda: open_environments(DummyVecEnv([ThresholdEnv])),
    "subprocess": lambda: open_environments(ThresholdEnv, n_envs=2, vectorization="subprocess"),
}


@pytest.mark.parametrize("opened", ONE_PROCESS)
def test_a_named_distance_is_found_wherever_the_environment_is(opened: str) -> None:
    env = ONE_PROCESS[opened]()
    try:
        reward = find_goal_reward(env)
    finally:
        env.close()
    achieved, desired = pairs()
    assert isinstance(reward, DistanceReward)
    expected = ThresholdEnv().compute_reward(achieved.numpy(), desired.numpy(), {})
    assert reward(achieved, desired).tolist() == expected.tolist()


@pytest.mark.parametrize("env_class", [PointEnv, DenseEnv, FalseThresholdEnv, CoordinatesEnv])
def test_no_distance_is_taken_for_another_reward(env_class: Any) -> None:
    reward = find_goal_reward(open_environments(env_class()))
    achieved, desired = pairs()
    assert isinstance(reward, EnvironmentReward)
    assert np.allclose(reward(achieved, desired), env_class().compute_reward(achieved.numpy(), desired.numpy(), {}))


def test_a_distance_that_is_not_all_is_found_out_where_goals_are() -> None:
    assert isinstance(find_goal_reward(open_environments(ForbiddenEnv())), EnvironmentReward)


@pytest.mark.parametrize("named", ["near", None, 0.0, -0.3, np.array([[0.3]])])
def test_what_is_no_distance_is_not_taken_for_one(named: Any) -> None:
    env = ThresholdEnv()
    env.distance_threshold = named
    assert isinstance(find_goal_reward(open_environments(env)), EnvironmentReward)


@pytest.mark.parametrize("goals", [gym.spaces.MultiBinary(5), gym.spaces.MultiDiscrete([2] * 5)])
def test_goals_may_be_whole_numbers(goals: gym.Space[Any]) -> None:
    env = WholeBits(5)
    env.observation_space = gym.spaces.Dict({"observation": goals, "achieved_goal": goals, "desired_goal": goals})
    reward = find_goal_reward(open_environments(env))
    achieved, desired = (torch.from_numpy(part) for part in random_goals(goals, 300))
    expected = (achieved == desired).all(1).float() - 1.0
    assert 0 < int((expected == 0.0).sum()) < 300
    assert reward(achieved, desired).tolist() == expected.tolist()


def scaled(env: gym.Env[Any, Any], high: float) -> gym.Env[Any, Any]:
    """With goals in other units, of which only the wrapper knows."""
    place = gym.spaces.Box(-high, high, (2,))
    seen = gym.spaces.Dict({"observation": place, "achieved_goal": place, "desired_goal": place})
    return gym.wrappers.TransformObservation(env, lambda observation: observation, seen)


def test_wrappers_that_change_goals_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"compute_reward of .*PointEnv.* takes goals of Box.*wrappers around"):
        find_goal_reward(open_environments(gym.wrappers.TimeLimit(scaled(PointEnv(), 1.0), 10)))


def test_wrappers_that_leave_goals_alone_are_no_matter() -> None:
    wrapped = gym.wrappers.TimeLimit(scaled(PointEnv(), math.inf), 10)
    achieved, desired = pairs()
    expected = PointEnv().compute_reward(achieved.numpy(), desired.numpy(), {})
    assert np.allclose(find_goal_reward(open_environments(wrapped))(achieved, desired), expected)


def test_a_wrapper_of_goals_may_have_rewards_of_its_own() -> None:
    class Own(gym.Wrapper[Any, Any, Any, Any]):
        def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
            return self.env.get_wrapper_attr("compute_reward")(2.0 * achieved, 2.0 * desired, info)

    reward = find_goal_reward(open_environments(Own(scaled(PointEnv(), 1.0))))
    achieved, desired = pairs()
    expected = PointEnv().compute_reward(2.0 * achieved.numpy(), 2.0 * desired.numpy(), {})
    assert np.allclose(reward(achieved, desired), expected)


def test_environments_in_processes_of_another_library_are_called_there() -> None:
    inner = gym.vector.AsyncVectorEnv([PaysOneEnv, PaysOneEnv])
    env = open_environments(inner)
    try:
        reward = find_goal_reward(env)
        achieved, desired = pairs()
        expected = PaysOneEnv().compute_reward(achieved.numpy(), desired.numpy(), {})
        assert reward(achieved, desired).tolist() == expected.tolist()
        env.reset(0)
    finally:
        inner.close()


@pytest.mark.parametrize("task", [BitFlipping(3, 4), PointMaze2D(2)])
def test_tensor_tasks_have_their_reward_on_the_device(task: Any) -> None:
    assert find_goal_reward(task) is task.goal_reward
    assert find_goal_reward(BorrowedVectorEnv(TensorVectorEnv(task))) is task.goal_reward


@pytest.mark.parametrize("vectorization", ["serial", "subprocess"])
def test_without_compute_reward_it_says_what_is_missing(vectorization: str) -> None:
    env = open_environments(SilentEnv, n_envs=1, vectorization=vectorization)
    try:
        with pytest.raises(InvalidInputError, match=r"goal environment without compute_reward.*Give it a method"):
            find_goal_reward(env)
    finally:
        env.close()


def test_without_goals_it_says_what_is_missing() -> None:
    with pytest.raises(SpaceError, match="Relabelling goals needs observations with goals"):
        find_goal_reward(open_environments("CartPole-v1"))


def test_a_tensor_environment_without_the_reward_is_told_how_to_give_one() -> None:
    task = BitFlipping(2, 3)
    del task.goal_reward
    with pytest.raises(InvalidInputError, match="BitFlipping observes goals but has no 'goal_reward'"):
        find_goal_reward(task)
