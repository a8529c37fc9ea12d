"""What the contract suite cannot know: both back-ends with environments whose numbers are known in advance."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from rl_framework.core.seeding import derive_seeds
from rl_framework.core.trees import Tree, leaves, select
from rl_framework.envs.subprocess import SubprocessVectorEnv
from rl_framework.errors import (
    InvalidInputError,
    SpaceError,
)
from rl_framework.testing.environments import (
    AnySpaceEnv,
    CountingEnv,
    MaskedCorridor,
)
from tests.envs.backends import BACKENDS, Opener, open_backend, step


def counters(observations: Tree) -> list[list[float]]:
    """Episode and step of each row."""
    return np.asarray(observations)[:, :2].tolist()  # type: ignore[no-any-return]


def test_a_finished_row_shows_its_next_episode_and_keeps_the_last_observation_in_final(opened: Opener) -> None:
    environments = opened(partial(CountingEnv, (2,)), partial(CountingEnv, (3,)))
    assert counters(environments.reset(seed=0)) == [[0, 0], [0, 0]]
    first = step(environments, [0, 0])
    assert counters(first.observations) == [[0, 1], [0, 1]]
    assert not first.final
    assert not first.episodes
    second = step(environments, [0, 0])
    assert counters(second.observations) == [[1, 0], [0, 2]]
    assert list(second.final) == [0]
    assert second.final[0][:2].tolist() == [0, 2]
    assert second.terminated.tolist() == [True, False]
    assert not second.truncated.any()
    third = step(environments, [0, 0])
    assert counters(third.observations) == [[1, 1], [1, 0]]
    assert list(third.final) == [1]


@pytest.mark.parametrize(("ends", "flags"), [("terminated", (1, 0)), ("truncated", (0, 1)), ("both", (1, 1))])
def test_terminated_and_truncated_are_told_apart(opened: Opener, ends: Any, flags: tuple[int, int]) -> None:
    environments = opened(partial(CountingEnv, (1,), ends))
    environments.reset(seed=0)
    taken = step(environments, [0])
    assert (taken.terminated[0], taken.truncated[0]) == flags


def test_summaries_count_rewards_steps_success_and_name_the_seed(opened: Opener) -> None:
    environments = opened(partial(CountingEnv, (3,)), partial(CountingEnv, (3,)))
    environments.reset(seed=7)
    taken = [step(environments, [0, 0]) for _ in range(6)]
    assert [len(one.episodes) for one in taken] == [0, 0, 2, 0, 0, 2]
    first, second = taken[2].episodes[1], taken[5].episodes[1]
    assert (first.row, first.total_reward, first.length, first.success) == (1, 6.0, 3, True)
    assert first.seed == derive_seeds(7, 2)[1]
    assert (second.success, second.seed) == (False, None)


def test_infos_travel_row_by_row(opened: Opener) -> None:
    environments = opened(partial(CountingEnv, (1,)), partial(CountingEnv, (5,)))
    environments.reset(seed=0)
    assert [dict(info) for info in step(environments, [0, 0]).infos] == [{"is_success": True}, {}]


def test_rewards_are_float64_as_given(opened: Opener) -> None:
    environments = opened(partial(CountingEnv, (9,)))
    environments.reset(seed=0)
    rewards = [step(environments, [0]).rewards for _ in range(3)]
    assert [one.tolist() for one in rewards] == [[1.0], [2.0], [3.0]]
    assert rewards[0].dtype == np.float64


def test_arrays_of_a_step_are_the_callers_to_keep(opened: Opener) -> None:
    environments = opened(CountingEnv, CountingEnv)
    start = environments.reset(seed=0)
    kept = [step(environments, [0, 0]) for _ in range(3)]
    assert counters(start) == [[0, 0], [0, 0]]
    assert [counters(one.observations)[0][1] for one in kept] == [1, 2, 3]
    assert [one.rewards[0] for one in kept] == [1, 2, 3]


def test_same_seed_same_observations_and_other_rows_other_observations(opened: Opener) -> None:
    environments = opened(CountingEnv, CountingEnv)
    first = environments.reset(seed=3)
    again = environments.reset(seed=3)
    other = environments.reset(seed=4)
    assert np.array_equal(first[:, 2], again[:, 2])
    assert first[0, 2] != first[1, 2]
    assert first[0, 2] != other[0, 2]


def test_a_schedule_gives_each_row_its_quota_and_its_seeds_then_rest(opened: Opener) -> None:
    environments = opened(partial(CountingEnv, (2,)), partial(CountingEnv, (3,)), CountingEnv)
    environments.reset_to_schedule([[11, 12], [13], []])
    taken = [step(environments, [0, 0, 0]) for _ in range(6)]
    episodes = [(one.row, one.seed, one.length) for step_taken in taken for one in step_taken.episodes]
    assert episodes == [(0, 11, 2), (1, 13, 3), (0, 12, 2)]
    resting = taken[-1]
    assert not resting.rewards.any()
    assert not resting.terminated.any()
    assert not resting.final
    assert not resting.episodes
    assert np.array_equal(resting.observations, taken[-2].observations)


def test_a_schedule_needs_one_list_per_row(opened: Opener) -> None:
    environments = opened(CountingEnv, CountingEnv)
    with pytest.raises(InvalidInputError, match="2 in all, got 1"):
        environments.reset_to_schedule([[1]])


@pytest.mark.parametrize("mask_in_info", [False, True])
def test_masks_belong_to_the_current_observations(opened: Opener, mask_in_info: bool) -> None:
    environments = opened(partial(MaskedCorridor, 4, mask_in_info), partial(MaskedCorridor, 4, mask_in_info))
    observations = environments.reset(seed=1)
    assert environments.spec.has_action_masks
    for _ in range(40):
        masks = environments.action_masks
        assert masks is not None
        expected = np.stack([observations[:, 0] > 0, observations[:, 0] < 1, np.zeros(2, bool)], axis=1)
        assert np.array_equal(masks, expected)
        observations = step(environments, masks.argmax(axis=1)).observations


def test_masks_in_the_info_alone_are_found(opened: Opener) -> None:
    environments = opened(partial(gym.make, "Taxi-v4"))
    environments.reset(seed=1)
    assert environments.spec.has_action_masks
    assert environments.action_masks is not None
    before = environments.action_masks
    assert before.shape == (1, 6)
    assert 0 < before.sum() < 6
    step(environments, before.argmax(axis=1))
    assert environments.action_masks is not before


SPACES: dict[str, gym.Space[Any]] = {
    "box": spaces.Box(-1, 1, (2, 3), np.float32),
    "image": spaces.Box(0, 255, (6, 5, 3), np.uint8),
    "discrete": spaces.Discrete(5, start=-2),
    "multi_discrete": spaces.MultiDiscrete([3, 4]),
    "multi_binary": spaces.MultiBinary(4),
    "dict": spaces.Dict({"b": spaces.Discrete(3), "a": spaces.Dict({"x": spaces.Box(-1, 1, (2,))})}),
    "tuple": spaces.Tuple((spaces.Discrete(3), spaces.Dict({"x": spaces.MultiBinary(2)}))),
}


@pytest.mark.parametrize("name", SPACES)
def test_every_space_travels_both_ways(opened: Opener, name: str) -> None:
    space = SPACES[name]
    environments = opened(partial(AnySpaceEnv, space, space, 2), partial(AnySpaceEnv, space, space, 3))
    single = AnySpaceEnv(space, space, 2)
    observations = environments.reset(seed=3)
    expected, _ = single.reset(seed=derive_seeds(3, 2)[0])
    assert_equal(select(observations, 0), expected)
    action_space = gym.vector.utils.batch_space(space, 2)
    action_space.seed(0)
    for _ in range(5):
        taken = step(environments, action_space.sample())
        assert [leaf.dtype for leaf in leaves(taken.observations)] == [leaf.dtype for leaf in leaves(observations)]
        for final in taken.final.values():
            assert space.contains(final if isinstance(final, (dict, tuple)) else np.asarray(final, space.dtype)[()])


def assert_equal(one: Tree, other: Tree) -> None:
    """Leaf by leaf."""
    for first, second in zip(leaves(one), leaves(other), strict=True):
        assert np.array_equal(first, second)


def test_both_backends_give_the_same_numbers() -> None:
    factories = [partial(gym.make, "CartPole-v1") for _ in range(2)]
    both = [open_backend(name, factories) for name in BACKENDS]
    starts = [environments.reset(seed=5) for environments in both]
    assert np.array_equal(*starts)
    actions = np.random.default_rng(0).integers(0, 2, (120, 2))
    for row in actions:
        serial, remote = (step(environments, row) for environments in both)
        assert np.array_equal(serial.observations, remote.observations)
        assert serial.episodes == remote.episodes
        assert list(serial.final) == list(remote.final)
    for environments in both:
        environments.close()


def test_methods_and_attributes_are_reached_through_wrappers(opened: Opener) -> None:
    environments = opened(partial(gym.make, "CartPole-v1"), partial(gym.make, "CartPole-v1"))
    environments.reset(seed=0)
    assert environments.get_attribute("gravity") == [9.8, 9.8]
    environments.set_attribute("gravity", 1.5, rows=[1])
    assert environments.get_attribute("gravity") == [9.8, 1.5]
    assert environments.call("has_wrapper_attr", "gravity", rows=[0]) == [True]
    environments.set_attribute("a_new_one", 3)
    assert environments.get_attribute("a_new_one") == [3, 3]


def test_an_unknown_attribute_is_named_and_nothing_closed(opened: Opener) -> None:
    environments = opened(CountingEnv)
    environments.reset(seed=0)
    for verb in (environments.get_attribute, environments.call):
        with pytest.raises(InvalidInputError, match="gravitty"):
            verb("gravitty")
    with pytest.raises(InvalidInputError, match="rows 0 to 0"):
        environments.get_attribute("lengths", rows=[1])
    assert step(environments, [0]).rewards.tolist() == [1.0]


def test_render_gives_a_picture_or_none(opened: Opener) -> None:
    environments = opened(partial(CountingEnv, render_mode="rgb_array"))
    environments.reset(seed=0)
    step(environments, [0])
    picture = environments.render()
    assert picture is not None
    assert picture.shape == (32, 48, 3)
    assert picture[0, 0, 0] == 8
    without = opened(CountingEnv)
    without.reset(seed=0)
    assert without.render() is None


def test_a_state_carries_schedule_and_rest(opened: Opener) -> None:
    factories = [partial(CountingEnv, (1,)), partial(CountingEnv, (4,))]
    environments = opened(*factories)
    environments.reset_to_schedule([[1], [2, 3]])
    step(environments, [0, 0])
    elsewhere = opened(*factories)
    elsewhere.set_state(environments.get_state())
    episodes = [one for _ in range(9) for one in step(elsewhere, [0, 0]).episodes]
    assert [(one.row, one.seed, one.length) for one in episodes] == [(1, 2, 4), (1, 3, 4)]


def test_a_state_of_another_number_of_rows_is_refused(opened: Opener) -> None:
    environments, more = opened(CountingEnv), opened(CountingEnv, CountingEnv)
    environments.reset(seed=0)
    with pytest.raises(InvalidInputError, match="one of 1 environments; there are 2"):
        more.set_state(environments.get_state())


def test_the_spec_describes_the_environments(opened: Opener) -> None:
    spec = opened(partial(gym.make, "Acrobot-v1"), partial(gym.make, "Acrobot-v1")).spec
    single = gym.make("Acrobot-v1")
    assert (spec.n_envs, spec.id, spec.render_fps, spec.seeds_episodes) == (2, "Acrobot-v1", 15.0, True)
    assert spec.observation_space == single.observation_space
    assert spec.action_space == single.action_space


def test_environments_with_different_spaces_do_not_share_a_batch() -> None:
    with pytest.raises(SpaceError, match="environment 1"):
        SubprocessVectorEnv([partial(gym.make, "CartPole-v1"), partial(gym.make, "Acrobot-v1")])
