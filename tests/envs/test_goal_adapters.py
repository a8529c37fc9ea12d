"""One contract for environments with goals, on small ones and on those of Gymnasium-Robotics; ids on demand."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from rl_framework.core.trees import leaves
from rl_framework.envs.goal_adapters import GoalContract, adapt_goal_environment, make_goal_environment
from rl_framework.envs.goal_rewards import DistanceReward, EnvironmentReward, find_goal_reward
from rl_framework.envs.source import environment_source, open_environments
from rl_framework.envs.vector_env import StateLevel
from rl_framework.errors import InvalidInputError, MissingExtraError, SpaceError
from rl_framework.evaluation.evaluate import evaluate_policy
from tests.envs.goal_environments import PaysOneEnv, PointEnv, SilentEnv
from tests.evaluation.policies import ConstantPolicy

ROBOTICS = ["FetchReach-v4", "FetchPush-v4", "HandReach-v3", "HandManipulateBlock-v1"]
MAZES = ["PointMaze_UMaze-v3", "AntMaze_UMaze-v5"]


def short_env() -> gym.Env[Any, Any]:
    """Three steps, by the contract."""
    return GoalContract(gym.wrappers.TimeLimit(PaysOneEnv(), 3), reward_of_success=1.0)


def walk_to_goal(env: gym.Env[Any, Any]) -> list[tuple[float, bool, bool]]:
    """Reward, ending and success of steps straight to the goal and then aside."""
    seen, _ = env.reset(seed=0)
    steps = []
    for share in (0.1, 0.9, 0.0, 1.0):
        aside = np.array([1.0, 0.0]) if share == 1.0 else 0.0
        result = env.step(share * (seen["desired_goal"] if share < 1.0 else 0.0) + aside)
        steps.append((float(result[1]), result[2], result[4]["is_success"]))
    return steps


@pytest.mark.parametrize("first_visit", [False, True])
def test_an_environment_that_pays_one_pays_zero_by_the_contract(first_visit: bool) -> None:
    env = GoalContract(PaysOneEnv(), reward_of_success=1.0, first_visit=first_visit)
    hit = (0.0, first_visit, True)
    assert walk_to_goal(env) == [(-1.0, False, False), hit, hit, (-1.0, False, False)]


def test_an_environment_that_keeps_to_the_contract_is_left_as_it_is() -> None:
    env = adapt_goal_environment(PointEnv())
    assert walk_to_goal(env) == [(-1.0, False, False), (0.0, False, True), (0.0, False, True), (-1.0, False, False)]
    achieved, desired = np.random.default_rng(0).normal(size=(2, 50, 2)) * 0.3
    compute_reward = env.get_wrapper_attr("compute_reward")
    assert np.array_equal(compute_reward(achieved, desired, {}), PointEnv().compute_reward(achieved, desired, {}))


def test_a_first_visit_is_an_ending_and_not_a_cut() -> None:
    env = GoalContract(gym.wrappers.TimeLimit(PointEnv(), 1), first_visit=True)
    seen, _ = env.reset(seed=0)
    assert env.step(seen["desired_goal"])[2:4] == (True, False)
    env.reset(seed=0)
    assert env.step(-seen["desired_goal"])[2:4] == (False, True)


def test_rewards_of_other_goals_are_those_of_the_contract() -> None:
    env = GoalContract(PaysOneEnv(), reward_of_success=1.0)
    reward = find_goal_reward(open_environments(env))
    assert isinstance(reward, EnvironmentReward)
    achieved = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    assert reward(achieved, torch.zeros(2, 2)).tolist() == [0.0, -1.0]


def test_the_contract_needs_goals_and_their_rewards() -> None:
    with pytest.raises(SpaceError, match="The goal contract needs observations with goals"):
        GoalContract(gym.make("CartPole-v1"))
    with pytest.raises(InvalidInputError, match=r"SilentEnv.* is a goal environment without compute_reward"):
        GoalContract(SilentEnv())


def test_evaluation_counts_successes() -> None:
    env = open_environments("tensor:PointUMaze2D", n_envs=4)
    still = ConstantPolicy(env.spec.observation_space, env.spec.action_space, np.zeros(2, np.float32))
    assert evaluate_policy(still, env, 8, seed=0).success_rate == 0.0
    aside = ConstantPolicy(PaysOneEnv().observation_space, PaysOneEnv().action_space, np.array([0.1, 0.0], np.float32))
    evaluation = evaluate_policy(aside, short_env, 40, seed=0)
    assert evaluation.success_rate is not None
    assert 0.0 < evaluation.success_rate < 0.5


def test_parts_of_an_observation_that_come_in_another_order_are_put_back_where_they_belong() -> None:
    before, after = (open_environments(PointEnv()) for _ in range(2))
    before.reset(seed=3)
    before.send(np.full((1, 2), 0.25, np.float32))
    seen = before.recv().observations
    again = after.set_state(before.get_state())
    assert {key: part.tolist() for key, part in again.items()} == {key: part.tolist() for key, part in seen.items()}


# ------------------------------------------------------------------------------------------- Gymnasium-Robotics


@pytest.mark.parametrize("env_id", [*ROBOTICS, *MAZES])
def test_robots_keep_to_the_contract(env_id: str) -> None:
    pytest.importorskip("gymnasium_robotics")
    env = open_environments(f"goal:{env_id}", n_envs=1)
    seen = env.reset(seed=0)
    reward = find_goal_reward(env)
    rng = np.random.default_rng(0)
    low, high = env.spec.action_space.low, env.spec.action_space.high  # type: ignore[attr-defined]  # It is a Box.
    for _ in range(5):
        env.send(rng.uniform(low, high)[None].astype(env.spec.action_space.dtype))
        step = env.recv()
        seen = step.observations
        paid = reward(*(torch.from_numpy(seen[key]).float() for key in ("achieved_goal", "desired_goal")))
        assert paid.tolist() == step.rewards.tolist()
        assert step.infos[0]["is_success"] == (step.rewards[0] == 0.0)
    goals = torch.from_numpy(seen["desired_goal"]).float()
    assert reward(goals, goals).tolist() == [0.0]
    assert isinstance(reward, EnvironmentReward if env_id == "HandManipulateBlock-v1" else DistanceReward)
    env.close()


@pytest.mark.parametrize("env_id", MAZES)
def test_a_maze_is_solved_within_its_radius(env_id: str) -> None:
    pytest.importorskip("gymnasium_robotics")
    for first_visit in (False, True):
        env = make_goal_environment(env_id, first_visit=first_visit)
        seen, _ = env.reset(seed=0)
        inner: Any = env.unwrapped
        inner.goal = seen["achieved_goal"] + np.array([0.3, 0.0])
        _, reward, terminated, _, info = env.step(np.zeros(env.action_space.shape or (), np.float32))
        assert (reward, terminated, info["is_success"]) == (0.0, first_visit, True)
        inner.goal = seen["achieved_goal"] + np.array([0.7, 0.0])
        _, reward, terminated, _, info = env.step(np.zeros(env.action_space.shape or (), np.float32))
        assert (reward, terminated, info["is_success"]) == (-1.0, False, False)
        env.close()


def test_a_dense_maze_is_no_distance_with_a_threshold() -> None:
    pytest.importorskip("gymnasium_robotics")
    reward = find_goal_reward(open_environments(make_goal_environment("PointMaze_UMazeDense-v3")))
    goals = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    assert reward(goals, torch.zeros(2, 2)).tolist() == pytest.approx([0.0, np.exp(-1.0) - 1.0])


@pytest.mark.parametrize("env_id", ["FetchPush-v4", *MAZES])
def test_simulations_go_on_bit_for_bit(env_id: str) -> None:
    pytest.importorskip("gymnasium_robotics")
    before, after = (open_environments(f"goal:{env_id}", n_envs=1) for _ in range(2))
    before.reset(seed=0)
    after.reset(seed=1)
    shape = before.spec.action_space.shape or ()
    actions = np.random.default_rng(0).uniform(-1, 1, (70, 1, *shape)).astype(np.float32)
    for action in actions[:15]:
        before.send(action)
        before.recv()
    state = before.get_state()
    assert state.level is StateLevel.EXACT
    after.set_state(state)
    for action in actions[15:]:
        steps = []
        for env in (before, after):
            env.send(action)
            steps.append(env.recv())
        ours, theirs = (leaves(step.observations) for step in steps)
        assert all(np.array_equal(one, other) for one, other in zip(ours, theirs, strict=True))
        assert steps[0].rewards == steps[1].rewards
    before.close()
    after.close()


# ------------------------------------------------------------------------------------------------ ids on demand


def test_robotics_is_imported_only_when_it_is_asked_for() -> None:
    pytest.importorskip("gymnasium_robotics")
    code = (
        "import sys\n"
        "from rl_framework.envs.source import environment_source\n"
        "environment_source('CartPole-v1')\n"
        "assert 'gymnasium_robotics' not in sys.modules\n"
        "environment_source('goal:FetchReach-v4')\n"
        "assert 'gymnasium_robotics' in sys.modules\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("env_id", ["FetchNowhere-v4", "goal:PointMaze_Nowhere-v3"])
def test_without_robotics_the_extra_is_named(env_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gymnasium_robotics", None)
    with pytest.raises(MissingExtraError, match=r"rl_framework\[mujoco\]"):
        environment_source(env_id)


def test_ids_that_nobody_knows_are_refused() -> None:
    for env_id in ("Nowhere-v0", "goal:Nowhere-v0"):
        with pytest.raises(InvalidInputError, match="There is no environment 'Nowhere-v0'"):
            environment_source(env_id)
    with pytest.raises(SpaceError, match="The goal contract needs observations with goals"):
        make_goal_environment("CartPole-v1")
