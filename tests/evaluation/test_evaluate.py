from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from rl_framework.core.seeding import derive_seeds
from rl_framework.core.trees import Tree
from rl_framework.envs.serial import SerialVectorEnv
from rl_framework.envs.vector_env import EnvSpec
from rl_framework.errors import EnvironmentFailure, InvalidInputError, InvalidNumberError, SpaceError
from rl_framework.evaluation.evaluate import evaluate_policy, run_episodes
from rl_framework.rollouts.stepping import DEFAULT_N_ENVS, deal
from rl_framework.testing.environments import CountingEnv, InvalidNumberEnv, MaskedCorridor, RaisingEnv, RecallEnv
from tests.evaluation.policies import COUNTING_OBSERVATIONS, ConstantPolicy, MaskedPolicy, RandomPolicy, RecallPolicy


class SeedLengthEnv(CountingEnv):
    """The seed says how long an episode is: at most 7 steps."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        if seed is not None:
            self.lengths = (length_of(seed),)
        return super().reset(seed=seed, options=options)


class LuckyEnv(SeedLengthEnv):
    """Rewards the action 1, with noise from the environment's generator."""

    def step(self, action: np.int64) -> Any:
        observation, _, terminated, truncated, info = super().step(action)
        return observation, float(action) + 0.1 * self.np_random.random(), terminated, truncated, info


class UnseededVectorEnv(SerialVectorEnv):
    """Stands for a foreign vector environment, whose rows play on."""

    @property
    def spec(self) -> EnvSpec:
        return replace(super().spec, seeds_episodes=False)

    def reset_to_schedule(self, seeds: Sequence[Sequence[int]]) -> Tree:
        raise AssertionError("a foreign environment has no schedules")


def length_of(seed: int) -> int:
    return 1 + seed % 7


def total_of(length: int) -> float:
    return length * (length + 1) / 2.0


@pytest.mark.parametrize("n_envs", [1, 3, 8, 20])
def test_episodes_are_in_dealt_order_whatever_the_number_of_environments(n_envs: int) -> None:
    result = evaluate_policy(ConstantPolicy(), SeedLengthEnv, 20, seed=5, n_envs=n_envs)
    seeds = derive_seeds(5, 20)
    assert result.seeds == tuple(seeds)
    assert result.lengths.tolist() == [length_of(seed) for seed in seeds]
    assert result.returns.tolist() == [total_of(length_of(seed)) for seed in seeds]
    assert result.n_envs == n_envs


def test_short_episodes_are_not_over_represented() -> None:
    # One environment plays 1-step episodes, the other 50-step ones; half of the episodes come from each.
    environments = [CountingEnv(lengths=(1,)), CountingEnv(lengths=(50,))]
    result = evaluate_policy(ConstantPolicy(), environments, 10, n_envs=2)
    assert result.lengths.tolist() == [1, 50] * 5


def test_rows_that_are_done_are_not_stepped() -> None:
    environments = [CountingEnv(lengths=(1,)), CountingEnv(lengths=(50,))]
    evaluate_policy(ConstantPolicy(), environments, 4, n_envs=2)
    assert [env.episode for env in environments] == [1, 1]


def test_the_same_seed_gives_the_same_result_with_a_random_policy() -> None:
    first, second = (evaluate_policy(RandomPolicy(), LuckyEnv, 12, seed=3, n_envs=4) for _ in range(2))
    assert first.returns.tolist() == second.returns.tolist()
    assert first.returns.tolist() != evaluate_policy(RandomPolicy(), LuckyEnv, 12, seed=4, n_envs=4).returns.tolist()


def test_the_state_of_the_training_does_not_change_the_result() -> None:
    policy = RandomPolicy()
    first = evaluate_policy(policy, LuckyEnv, 6, seed=3)
    np.random.seed(99)  # noqa: NPY002
    policy.action_space.seed(99)
    assert evaluate_policy(policy, LuckyEnv, 6, seed=3).returns.tolist() == first.returns.tolist()


def test_the_random_generators_of_the_training_are_left_as_they_were() -> None:
    policy = RandomPolicy()
    seed_all(policy)
    expected = draw_all(policy)
    seed_all(policy)
    evaluate_policy(policy, LuckyEnv, 6, seed=3)
    assert draw_all(policy) == expected


def test_they_are_left_as_they_were_when_the_evaluation_fails() -> None:
    policy = RandomPolicy()
    seed_all(policy)
    expected = draw_all(policy)
    seed_all(policy)
    with pytest.raises(EnvironmentFailure):
        evaluate_policy(policy, RaisingEnv, 6)
    assert draw_all(policy) == expected


def seed_all(policy: ConstantPolicy) -> None:
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    policy.action_space.seed(1)


def draw_all(policy: ConstantPolicy) -> tuple[float, float, list[int]]:
    return random.random(), np.random.random(), [int(policy.action_space.sample()) for _ in range(20)]  # noqa: NPY002


def test_without_a_seed_one_is_drawn_and_recorded() -> None:
    first, second = (evaluate_policy(ConstantPolicy(), SeedLengthEnv, 5) for _ in range(2))
    assert first.seed != second.seed
    again = evaluate_policy(ConstantPolicy(), SeedLengthEnv, 5, seed=first.seed)
    assert again.returns.tolist() == first.returns.tolist()


def test_a_policy_with_memory_gets_it_back_and_cleared_at_each_start() -> None:
    result = evaluate_policy(RecallPolicy(), RecallEnv, 30, seed=0, n_envs=4)
    assert result.returns.tolist() == [1.0] * 30
    assert result.success_rate == 1.0


def test_a_masked_policy_gets_the_masks_of_each_step() -> None:
    result = evaluate_policy(MaskedPolicy(), MaskedCorridor, 10, seed=0, n_envs=3)
    assert result.returns.tolist() == [1.0] * 10


def test_masks_that_travel_in_the_info_reach_the_policy() -> None:
    result = evaluate_policy(MaskedPolicy(), lambda: HiddenMask(MaskedCorridor(mask_in_info=True)), 4, seed=0)
    assert result.returns.tolist() == [1.0] * 4


class HiddenMask(gym.Env[Any, Any]):
    """Gives the masks of another environment in its infos only."""

    def __init__(self, env: MaskedCorridor) -> None:
        self.env = env
        self.observation_space, self.action_space = env.observation_space, env.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return self.env.reset(seed=seed)

    def step(self, action: Any) -> Any:
        return self.env.step(action)


def test_successes_are_those_of_the_infos() -> None:
    # CountingEnv says success in the even episodes of its life: the first of each row, then not, ...
    result = evaluate_policy(ConstantPolicy(), CountingEnv, 6, n_envs=2)
    assert result.successes == (True, True, False, False, True, True)
    assert result.success_rate == pytest.approx(4 / 6)


@pytest.mark.parametrize("deterministic", [False, True])
def test_the_policy_is_told_whether_to_be_deterministic(deterministic: bool) -> None:
    policy = ConstantPolicy()
    result = evaluate_policy(policy, CountingEnv, 2, deterministic=deterministic)
    assert result.deterministic is deterministic
    assert set(policy.deterministic) == {deterministic}


def test_environments_that_can_be_copied_run_many_at_a_time() -> None:
    assert evaluate_policy(ConstantPolicy(), CountingEnv, 10).n_envs == 10
    policy = ConstantPolicy()
    assert evaluate_policy(policy, CountingEnv(), 200).n_envs == DEFAULT_N_ENVS
    assert policy.calls == 5 * -(-200 // DEFAULT_N_ENVS)


def test_a_registered_id_is_recorded() -> None:
    policy = ConstantPolicy(gym.make("CartPole-v1").observation_space)
    result = evaluate_policy(policy, "CartPole-v1", 3, seed=0)
    assert result.environment_id == "CartPole-v1"
    assert result.duration_seconds > 0


def test_a_foreign_vector_environment_counts_a_fixed_quota_of_each_row() -> None:
    env = UnseededVectorEnv([CountingEnv((2,)), CountingEnv((3,)), CountingEnv((30,))], owned=True)
    result = evaluate_policy(ConstantPolicy(), env, 7, seed=1)
    assert result.lengths.tolist() == [2, 3, 30, 2, 3, 30, 2]
    assert result.seeds == (None,) * 7
    assert result.n_envs == 3


def test_a_foreign_vector_environment_may_have_more_rows_than_episodes() -> None:
    env = UnseededVectorEnv([CountingEnv((2,)), CountingEnv((3,))], owned=True)
    assert evaluate_policy(ConstantPolicy(), env, 1).lengths.tolist() == [2]


def test_a_vector_environment_of_gymnasium_is_one() -> None:
    env = gym.vector.SyncVectorEnv([lambda: CountingEnv((2,)), lambda: CountingEnv((5,))])
    result = evaluate_policy(ConstantPolicy(), env, 5, seed=1)
    assert result.lengths.tolist() == [2, 5, 2, 5, 2]
    assert result.seeds == (None,) * 5
    assert env.reset()[0].shape == (2, 3)
    env.close()


def test_what_the_caller_opened_stays_open() -> None:
    env = SerialVectorEnv([CountingEnv()], owned=True)
    evaluate_policy(ConstantPolicy(), env, 2)
    assert env.reset(0).shape == (1, 3)


class ClosableEnv(CountingEnv):
    closed = 0

    def close(self) -> None:
        type(self).closed += 1


def test_what_the_evaluation_opened_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClosableEnv, "closed", 0)
    evaluate_policy(ConstantPolicy(), ClosableEnv, 3)
    assert ClosableEnv.closed == 3


def test_what_the_evaluation_opened_is_closed_when_the_policy_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClosableEnv, "closed", 0)
    with pytest.raises(ZeroDivisionError):
        evaluate_policy(BrokenPolicy(), ClosableEnv, 3)
    assert ClosableEnv.closed == 3


class BrokenPolicy(ConstantPolicy):
    def act(self, *arguments: Any, **options: Any) -> Any:
        raise ZeroDivisionError("deliberate")


def test_an_environment_that_raises_gives_its_error_and_no_number() -> None:
    with pytest.raises(EnvironmentFailure, match="deliberate failure") as caught:
        evaluate_policy(ConstantPolicy(), RaisingEnv, 20)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("where", ["reward", "observation"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_environment_that_gives_no_number_raises(where: Any, value: float) -> None:
    with pytest.raises(InvalidNumberError, match=where):
        evaluate_policy(ConstantPolicy(), lambda: InvalidNumberEnv(where=where, value=value), 5)


@pytest.mark.parametrize("count", [0, -3])
def test_a_number_of_episodes_below_one_is_refused(count: int) -> None:
    with pytest.raises(InvalidInputError, match="n_eval_episodes"):
        evaluate_policy(ConstantPolicy(), CountingEnv, count)


def test_no_environments_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="n_envs"):
        evaluate_policy(ConstantPolicy(), CountingEnv, 1, n_envs=0)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="seed"):
        evaluate_policy(ConstantPolicy(), CountingEnv, 1, seed=-1)


@pytest.mark.parametrize(
    ("observation_space", "action_space", "role"),
    [
        (spaces.Box(0.0, 1.0, (2,)), spaces.Discrete(2), "observation"),
        (COUNTING_OBSERVATIONS, spaces.Discrete(3), "action"),
    ],
)
def test_other_spaces_are_refused_before_anything_runs(observation_space: Any, action_space: Any, role: str) -> None:
    policy = ConstantPolicy(observation_space, action_space)
    env = CountingEnv()
    with pytest.raises(SpaceError, match=f"{role} space of the evaluation environment"):
        evaluate_policy(policy, env, 1)
    assert (policy.calls, env.episode) == (0, -1)


class BoxActionEnv(CountingEnv):
    """Would make a number of any action."""

    def __init__(self) -> None:
        super().__init__()
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)  # type: ignore[assignment]

    def step(self, action: Any) -> Any:
        return super().step(np.int64(0))


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ([np.nan, 0.0], "nan"),
        ([np.inf, 0.0], "inf"),
        ([0.0], r"shape \(1, 1\)"),
        (0.0, r"shape \(1,\)"),
        (["left", "right"], "numbers"),
    ],
)
def test_continuous_actions_that_are_none_are_refused(action: Any, message: str) -> None:
    policy = ConstantPolicy(action_space=BoxActionEnv().action_space, action=action)
    with pytest.raises(SpaceError, match=message):
        evaluate_policy(policy, BoxActionEnv, 1)


@pytest.mark.parametrize(
    ("action", "message"), [(2, "choice 2"), (-1, "choice -1"), (0.5, "integers"), (np.nan, "integers"), ([0], "shape")]
)
def test_discrete_actions_that_do_not_exist_are_refused(action: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        evaluate_policy(ConstantPolicy(action=action), CountingEnv, 1)


def test_run_episodes_plays_uneven_schedules() -> None:
    env = SerialVectorEnv([SeedLengthEnv() for _ in range(3)], owned=True)
    episodes = run_episodes(ConstantPolicy(), env, [[1, 2, 3], [], [4]])
    assert [(episode.row, episode.seed) for episode in episodes] == [(0, 1), (2, 4), (0, 2), (0, 3)]


def test_seeds_are_dealt_round_the_rows() -> None:
    assert deal([10, 11, 12, 13, 14], 2) == [[10, 12, 14], [11, 13]]
