from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from rl_framework.algorithms.base import make_config
from rl_framework.algorithms.q_learning import QLearning, QLearningConfig
from rl_framework.checkpoints.state_tree import read_state, write_state
from rl_framework.envs.serial import SerialVectorEnv
from rl_framework.errors import InvalidInputError, SpaceError
from rl_framework.functional.schedules import LinearSchedule
from rl_framework.testing.environments import AnySpaceEnv
from tests.algorithms.scripted_env import N_STATES, ScriptedEnv, Step, rows

GREEDY = {"epsilon": 0.0, "learning_rate": 0.5, "gamma": 0.9, "seed": 0}


def learner(env: SerialVectorEnv, values: Any = None, **options: Any) -> QLearning:
    algorithm = QLearning(env, make_config(QLearningConfig, {**GREEDY, **options}))
    if values is not None:
        algorithm.values[...] = values
    algorithm.begin(env.reset(seed=1), timesteps=0, target_timesteps=1000)
    return algorithm


def cycle(algorithm: QLearning, times: int = 1) -> None:
    for _ in range(times):
        algorithm.collect()
        algorithm.update()


def table(**values: float) -> Any:
    """A table of zeros but for `s<state>a<action>=value`."""
    zeros = np.zeros((N_STATES, 2))
    for name, value in values.items():
        zeros[int(name[1]), int(name[3])] = value
    return zeros


# One update, computed by hand


def test_a_step_moves_the_value_towards_reward_plus_discounted_best() -> None:
    algorithm = learner(rows(ScriptedEnv([Step(1, reward=2.0)])), table(s0a1=1.0, s1a0=3.0, s1a1=4.0))
    cycle(algorithm)
    new_value = 1.0 + 0.5 * (2.0 + 0.9 * 4.0 - 1.0)
    np.testing.assert_allclose(algorithm.values, table(s0a1=new_value, s1a0=3.0, s1a1=4.0))


def test_an_ending_is_worth_its_reward_alone() -> None:
    # Neither the last observation (1) nor the next episode's first (0) counts, however much they are worth.
    algorithm = learner(rows(ScriptedEnv([Step(1, reward=2.0, terminated=True)])), table(s0a1=1.0, s1a0=50.0))
    cycle(algorithm)
    assert algorithm.values[0, 1] == pytest.approx(1.0 + 0.5 * (2.0 - 1.0))


def test_a_time_limit_bootstraps_from_the_true_last_observation() -> None:
    algorithm = learner(rows(ScriptedEnv([Step(1, reward=2.0, truncated=True)])), table(s0a1=70.0, s1a0=10.0))
    cycle(algorithm)
    assert algorithm.values[0, 1] == pytest.approx(70.0 + 0.5 * (2.0 + 0.9 * 10.0 - 70.0))


def test_an_ending_at_the_time_limit_is_an_ending() -> None:
    step = Step(1, reward=2.0, terminated=True, truncated=True)
    algorithm = learner(rows(ScriptedEnv([step])), table(s0a1=1.0, s1a0=50.0))
    cycle(algorithm)
    assert algorithm.values[0, 1] == pytest.approx(1.5)


def test_after_an_episode_learning_goes_on_from_the_first_observation_of_the_next() -> None:
    env = ScriptedEnv([Step(1, truncated=True), Step(2, reward=1.0)], start=3)
    algorithm = learner(rows(env), table(s3a1=1.0))
    cycle(algorithm, 2)
    assert algorithm.visits.tolist() == [[0, 0]] * 3 + [[0, 2]] + [[0, 0]] * 2


def test_rows_in_the_same_state_all_count() -> None:
    end = Step(1, reward=1.0, terminated=True)
    algorithm = learner(rows(ScriptedEnv([end]), ScriptedEnv([end]), ScriptedEnv([end])), table(s0a1=1e-9))
    cycle(algorithm)
    assert algorithm.values[0, 1] == pytest.approx(0.875)  # 1/2, 3/4, 7/8
    assert algorithm.visits[0, 1] == 3


def test_rows_are_taken_one_after_the_other() -> None:
    first = ScriptedEnv([Step(2, reward=4.0, terminated=True)], start=1)
    second = ScriptedEnv([Step(1)], start=0)  # leads to where the first row has just learned something
    algorithm = learner(rows(first, second), table(s0a0=1e-9, s1a0=1e-9))
    cycle(algorithm)
    assert algorithm.values[1, 0] == pytest.approx(2.0)
    assert algorithm.values[0, 0] == pytest.approx(0.5 * 0.9 * 2.0)


def test_the_rate_can_fall_with_the_visits() -> None:
    rewards = [4.0, 10.0, 1.0]
    env = ScriptedEnv([Step(1, reward=reward, terminated=True) for reward in rewards])
    algorithm = learner(rows(env), table(s0a1=1e-9), learning_rate=1.0, learning_rate_power=1.0)
    cycle(algorithm, 3)
    assert algorithm.values[0, 1] == pytest.approx(np.mean(rewards))


def test_the_report_tells_the_error_and_the_exploration() -> None:
    algorithm = learner(rows(ScriptedEnv([Step(1, reward=2.0)])), table(s0a1=1.0))
    assert algorithm.collect().metrics == {"rollout/exploration_rate": 0.0}
    assert algorithm.update().metrics == {"train/td_error": pytest.approx(1.0)}


# Masks


def test_a_masked_action_is_neither_taken_nor_bootstrapped_from() -> None:
    env = ScriptedEnv([Step(1, reward=2.0)], masks={0: [True, False], 1: [True, False]})
    algorithm = learner(rows(env), table(s0a1=99.0, s1a0=4.0, s1a1=99.0))
    cycle(algorithm)
    assert env.actions == [0]
    assert algorithm.values[0, 0] == pytest.approx(0.5 * (2.0 + 0.9 * 4.0))


def test_exploration_keeps_to_the_mask() -> None:
    env = ScriptedEnv([Step(state) for state in range(N_STATES)], masks={state: [False, True] for state in range(6)})
    cycle(learner(rows(env), epsilon=1.0), 50)
    assert set(env.actions) == {1}


def test_a_cut_episode_bootstraps_with_the_mask_of_its_last_observation() -> None:
    # State 1 is visited first, so its mask is known when an episode is cut there later.
    steps = [Step(1), Step(0), Step(1, reward=2.0, truncated=True)]
    env = ScriptedEnv(steps, masks={0: [True, False], 1: [True, False]})
    algorithm = learner(rows(env), table(s1a1=99.0), gamma=1.0, learning_rate=1.0)
    cycle(algorithm, 3)
    assert algorithm.values[0, 0] == pytest.approx(2.0)


def test_the_policy_remembers_the_masks_when_it_is_not_given_any(tmp_path: Path) -> None:
    algorithm = learner(rows(ScriptedEnv([Step(1)], masks={0: [True, False]})), table(s0a1=99.0))
    write_state(tmp_path, "state", algorithm.state_dict())
    loaded = QLearning(rows(ScriptedEnv([])), QLearningConfig())
    loaded.load_state_dict(read_state(tmp_path, "state"))
    for policy in (algorithm.policy, loaded.policy):
        assert policy.act(np.array([0]), deterministic=True).actions.tolist() == [0]
        assert policy.act(np.array([0])).actions.tolist() == [0]


# Spaces


def test_actions_may_start_anywhere() -> None:
    env = ScriptedEnv([Step(0)], action_space=spaces.Discrete(2, start=5))
    cycle(learner(rows(env), table(s0a1=1.0), learning_rate=0.01, gamma=0.0), 3)
    assert env.actions == [6, 6, 6]


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(5, start=-2),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(3),
        spaces.Dict({"b": spaces.Discrete(2), "a": spaces.Tuple([spaces.MultiBinary(1), spaces.Discrete(3)])}),
    ],
)
def test_learns_from_every_space_that_can_be_counted(space: Any) -> None:
    env = rows(*(AnySpaceEnv(space, spaces.Discrete(3, start=1)) for _ in range(2)))
    algorithm = learner(env, epsilon=1.0)
    cycle(algorithm, 30)
    assert algorithm.visits.sum() == 60
    assert set(algorithm.policy.act(env.reset()).actions) <= {1, 2, 3}


@pytest.mark.parametrize(
    ("observation_space", "action_space", "message"),
    [
        (spaces.Box(0.0, 1.0, (2,)), spaces.Discrete(2), "that can be counted"),
        (spaces.Discrete(2), spaces.Box(0.0, 1.0, (2,)), "needs a Discrete action space"),
        (spaces.Discrete(2), spaces.MultiDiscrete([2, 2]), "needs a Discrete action space"),
        (spaces.MultiDiscrete([10_000, 10_001]), spaces.Discrete(2), "100,010,000 rows; at most 50,000,000 fit"),
    ],
)
def test_other_spaces_are_refused(observation_space: Any, action_space: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        QLearning(rows(AnySpaceEnv(observation_space, action_space)), QLearningConfig())


# Acting


def acting(values: list[float], epsilon: float) -> Any:
    algorithm = QLearning(rows(ScriptedEnv([], action_space=spaces.Discrete(len(values)))), QLearningConfig())
    algorithm.values[0] = values
    algorithm.policy.epsilon = epsilon
    return algorithm.policy


def shares(policy: Any, n_actions: int, **options: Any) -> Any:
    np.random.seed(3)  # noqa: NPY002  (the global generator is what evaluations seed)
    actions = policy.act(np.zeros(20_000, np.int64), **options).actions
    return np.bincount(actions, minlength=n_actions) / 20_000


def test_deterministic_acting_takes_the_first_of_the_best() -> None:
    assert shares(acting([0.0, 2.0, 2.0], 0.5), 3, deterministic=True).tolist() == [0.0, 1.0, 0.0]


def test_other_acting_explores_with_epsilon_and_breaks_ties_at_random() -> None:
    expected = [0.2, 0.4, 0.4]  # 0.6 / 3 each, and 0.4 shared by the two best
    np.testing.assert_allclose(shares(acting([0.0, 2.0, 2.0], 0.6), 3), expected, atol=0.015)


def test_exploration_shares_what_the_mask_leaves() -> None:
    masks = np.tile([True, False, True], (20_000, 1))
    np.testing.assert_allclose(
        shares(acting([0.0, 9.0, -1.0], 0.5), 3, action_masks=masks), [0.75, 0.0, 0.25], atol=0.015
    )


def test_acting_follows_the_global_generator() -> None:
    policy = acting([0.0, 0.0], 1.0)
    assert shares(policy, 2).tolist() == shares(policy, 2).tolist()


def test_training_does_not_touch_the_global_generator() -> None:
    np.random.seed(5)  # noqa: NPY002  (the generator under test)
    cycle(learner(rows(ScriptedEnv([Step(0)])), epsilon=1.0), 5)
    np.testing.assert_array_equal(np.random.random(3), np.random.RandomState(5).random(3))  # noqa: NPY002


# Exploration schedule


def test_exploration_falls_with_the_steps_of_the_run() -> None:
    env = rows(*(ScriptedEnv([Step(0)]) for _ in range(4)))
    algorithm = QLearning(env, QLearningConfig(epsilon=LinearSchedule(1.0, 0.0, fraction=0.5)))
    algorithm.begin(env.reset(), timesteps=0, target_timesteps=32)
    rates = []
    for _ in range(8):
        rates.append(algorithm.collect().metrics["rollout/exploration_rate"])
        algorithm.update()
    assert rates == pytest.approx([1.0, 0.75, 0.5, 0.25, 0.0, 0.0, 0.0, 0.0])


def test_the_exploration_reached_is_saved() -> None:
    env = rows(ScriptedEnv([Step(0)]))
    algorithm = QLearning(env, QLearningConfig(epsilon=LinearSchedule(1.0, 0.0)))
    algorithm.begin(env.reset(), timesteps=75, target_timesteps=100)
    cycle(algorithm)
    loaded = QLearning(env, QLearningConfig(epsilon=LinearSchedule(1.0, 0.0)))
    loaded.load_state_dict(algorithm.state_dict())
    assert loaded.policy.epsilon == algorithm.policy.epsilon == pytest.approx(0.25)


# Saving and resuming


def lake(count: int = 3) -> SerialVectorEnv:
    return rows(*(gym.make("FrozenLake-v1", is_slippery=True) for _ in range(count)))


def play(algorithm: QLearning, observations: Any, timesteps: int, target: int) -> Any:
    """Train up to a number of steps of a run of 600, and give the observations then."""
    algorithm.begin(observations, timesteps=timesteps, target_timesteps=600)
    last: Any = observations
    for _ in range((target - timesteps) // 3):
        algorithm.collect()
        algorithm.update()
        last = [row.env.unwrapped.s for row in algorithm._env._rows]  # type: ignore[attr-defined]  # where they are
    return np.array(last)


def test_a_resumed_learner_ends_with_the_same_table_bit_for_bit(tmp_path: Path) -> None:
    config = QLearningConfig(seed=7, learning_rate_power=0.6)
    whole_env, split_env = lake(), lake()
    whole = QLearning(whole_env, config)
    play(whole, whole_env.reset(seed=11), 0, 600)
    first = QLearning(split_env, config)
    observations = play(first, split_env.reset(seed=11), 0, 300)
    write_state(tmp_path, "algorithm", first.state_dict())
    second = QLearning(split_env, QLearningConfig(seed=8, learning_rate_power=0.6))
    second.load_state_dict(read_state(tmp_path, "algorithm"))
    play(second, observations, 300, 600)
    np.testing.assert_array_equal(second.values, whole.values)
    np.testing.assert_array_equal(second.visits, whole.visits)
    assert second.state_dict()["random"] == whole.state_dict()["random"]


def test_the_same_seed_gives_the_same_table_and_another_one_does_not() -> None:
    tables = []
    for seed in (1, 1, 2):
        env = lake()
        algorithm = QLearning(env, QLearningConfig(seed=seed))
        play(algorithm, env.reset(seed=11), 0, 600)
        tables.append(algorithm.visits)
    np.testing.assert_array_equal(tables[0], tables[1])
    assert (tables[0] != tables[2]).any()


def test_what_was_saved_does_not_change_with_further_learning() -> None:
    env = lake()
    algorithm = QLearning(env, QLearningConfig(seed=1))
    observations = play(algorithm, env.reset(seed=11), 0, 300)
    saved = algorithm.state_dict()
    before = {name: saved[name].copy() for name in ("values", "visits")}
    algorithm.values += 1.0
    play(algorithm, observations, 300, 600)
    for name, array in before.items():
        np.testing.assert_array_equal(saved[name], array)


def test_a_learner_goes_on_with_another_number_of_environments() -> None:
    small, large = lake(1), lake(4)
    algorithm = QLearning(small, QLearningConfig(seed=1))
    algorithm.begin(small.reset(seed=0), timesteps=0, target_timesteps=100)
    cycle(algorithm, 10)
    wider = QLearning(large, QLearningConfig(seed=1))
    wider.load_state_dict(algorithm.state_dict())
    wider.begin(large.reset(seed=0), timesteps=10, target_timesteps=100)
    cycle(wider, 10)
    assert wider.visits.sum() == 50


def test_the_state_of_other_spaces_is_refused() -> None:
    state = QLearning(lake(), QLearningConfig()).state_dict()
    with pytest.raises(SpaceError, match=r"shape \(16, 4\), these spaces need \(6, 2\)"):
        QLearning(rows(ScriptedEnv([])), QLearningConfig()).load_state_dict(state)


def test_the_verbs_in_the_wrong_order_are_refused() -> None:
    env = lake()
    algorithm = QLearning(env, QLearningConfig())
    with pytest.raises(InvalidInputError, match="Call begin"):
        algorithm.collect()
    algorithm.begin(env.reset(), timesteps=0, target_timesteps=10)
    with pytest.raises(InvalidInputError, match="call collect before update"):
        algorithm.update()


# Hyper-parameters


def test_the_config_survives_json() -> None:
    config = QLearningConfig(epsilon=LinearSchedule(0.9, 0.1, fraction=0.3), gamma=0.5)
    assert make_config(QLearningConfig, json.loads(json.dumps(asdict(config)))) == config


@pytest.mark.parametrize(
    "options",
    [
        {"learning_rate": 0.0},
        {"learning_rate": 1.5},
        {"learning_rate_power": -0.1},
        {"gamma": 1.01},
        {"gamma": float("nan")},
        {"epsilon": 1.5},
        {"epsilon": LinearSchedule(1.0, -0.5)},
        {"initial_value": float("inf")},
        {"seed": -1},
    ],
)
def test_values_out_of_range_are_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=rf"{next(iter(options))} of QLearning"):
        QLearningConfig(**options)


def test_optimistic_values_fill_the_table() -> None:
    assert (QLearning(lake(), QLearningConfig(initial_value=2.5)).values == 2.5).all()
