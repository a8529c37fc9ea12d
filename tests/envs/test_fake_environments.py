"""The public fakes keep their promises, and fulfil Gymnasium's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from rl_framework.testing.environments import (
    AnySpaceEnv,
    BitFlipping,
    CountingEnv,
    ImageEnv,
    MaskedCorridor,
    RecallEnv,
)

FAKES: dict[str, Callable[[], gym.Env[Any, Any]]] = {
    "CountingEnv": lambda: gym.wrappers.TransformObservation(
        CountingEnv(), lambda seen: seen[1:], spaces.Box(0, 99, (2,))
    ),
    "BitFlipping": BitFlipping,
    "RecallEnv": RecallEnv,
    "ImageEnv": ImageEnv,
    "AnySpaceEnv": lambda: AnySpaceEnv(spaces.Dict({"x": spaces.Discrete(3)}), spaces.MultiBinary(2)),
}


@pytest.mark.parametrize("name", FAKES)
@pytest.mark.filterwarnings("ignore:.*WARN.*:UserWarning")
def test_fakes_pass_gymnasiums_own_check(name: str) -> None:
    check_env(FAKES[name](), skip_render_check=True)


def test_bit_flipping_rewards_many_pairs_at_once() -> None:
    env = BitFlipping(3)
    achieved = np.array([[0, 1, 1], [0, 0, 0]])
    assert env.compute_reward(achieved, np.array([[0, 1, 1], [1, 0, 0]]), {}).tolist() == [0.0, -1.0]
    assert env.compute_reward(achieved[0], achieved[0], {}) == 0.0


def test_bit_flipping_ends_at_the_goal() -> None:
    env = BitFlipping(4)
    observation, _ = env.reset(seed=1)
    wrong = np.flatnonzero(observation["achieved_goal"] != observation["desired_goal"])
    results = [env.step(bit) for bit in wrong]
    assert results[-1][2]
    assert results[-1][1] == 0.0
    assert results[-1][4]["is_success"]


def test_a_forbidden_action_raises() -> None:
    env = MaskedCorridor(4)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="forbidden"):
        env.step(np.int64(2))


def test_recall_rewards_the_cue_alone() -> None:
    env = RecallEnv(delay=2)
    for seed in range(6):
        first, _ = env.reset(seed=seed)
        cue = int(first[0] > 0)
        waited = [env.step(np.int64(0)) for _ in range(2)]
        assert [reward for _, reward, *_ in waited] == [0.0, 0.0]
        assert [observation.tolist() for observation, *_ in waited] == [[0.0, 0.0], [0.0, 1.0]]
        assert env.step(np.int64(cue))[1:3] == (1.0, True)


def test_the_picture_shows_what_is_rewarded() -> None:
    env = ImageEnv()
    picture, _ = env.reset(seed=0)
    bright = np.argwhere(picture[:, :, 0] == 255)[0]
    quarter = 2 * int(bright[0] >= 18) + int(bright[1] >= 20)
    assert env.step(np.int64(quarter))[1] == 1.0
