"""The automatic choice of a back-end, and that measuring leaves no trace."""

from __future__ import annotations

import logging
import random
import threading
from functools import partial

import numpy as np
import pytest
from gymnasium import spaces

from rl_framework.envs.choice import choose_backend, measure_step
from rl_framework.envs.serial import SerialVectorEnv
from rl_framework.envs.source import open_environments
from rl_framework.envs.subprocess import SubprocessVectorEnv
from rl_framework.testing.environments import AnySpaceEnv, CountingEnv, MaskedCorridor, RaisingEnv, SlowEnv


def test_fast_environments_stay_in_this_process(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="rl_framework"):
        assert isinstance(open_environments([CountingEnv(), CountingEnv()]), SerialVectorEnv)
    assert "serial back-end: a step takes" in caplog.text


def test_slow_environments_get_a_process_each(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="rl_framework"):
        environments = open_environments(partial(SlowEnv, 0.004), n_envs=2)
    assert isinstance(environments, SubprocessVectorEnv)
    assert "subprocess back-end: a step takes" in caplog.text
    environments.close()


def test_one_environment_is_not_measured() -> None:
    assert choose_backend(1, partial(RaisingEnv, -1), lambda: True) == "serial"


def test_environments_that_cannot_travel_stay_in_this_process() -> None:
    lock = threading.Lock()
    environments = open_environments(lambda: SlowEnv(0.004, (5, int(lock.locked()))), n_envs=2)
    assert isinstance(environments, SerialVectorEnv)


def test_a_failure_while_measuring_is_left_for_later() -> None:
    assert choose_backend(2, partial(RaisingEnv, 0), lambda: True) == "serial"


@pytest.mark.parametrize("mask_in_info", [False, True])
def test_measuring_respects_masks(mask_in_info: bool) -> None:
    assert measure_step(partial(MaskedCorridor, 4, mask_in_info)) > 0


class OneWayEnv(AnySpaceEnv):
    """Allows one combination of actions."""

    def __init__(self, action_space: spaces.MultiDiscrete | spaces.MultiBinary, flat: list[int]) -> None:
        super().__init__(spaces.Discrete(2), action_space)
        self.flat = np.array(flat, np.bool_)

    def action_masks(self) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        """The one way."""
        return self.flat

    def step(self, action: object) -> tuple[object, float, bool, bool, dict[str, object]]:
        """Refuse every other action."""
        if list(np.asarray(action)) != [1, 0]:
            raise ValueError(f"{action} is forbidden")
        return super().step(action)


@pytest.mark.parametrize(
    "env",
    [OneWayEnv(spaces.MultiDiscrete([2, 3]), [0, 1, 1, 0, 0]), OneWayEnv(spaces.MultiBinary(2), [0, 1, 1, 0])],
    ids=["MultiDiscrete", "MultiBinary"],
)
def test_measuring_respects_masks_of_several_choices(env: OneWayEnv) -> None:
    assert measure_step(lambda: env) > 0


class GlobalRandomEnv(CountingEnv):
    """Draws from the generators of the process."""

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, object]]:
        """Draw and count."""
        random.random()
        np.random.random()  # noqa: NPY002  What this environment is for.
        return super().step(action)


def test_measuring_leaves_all_generators_alone() -> None:
    given = [GlobalRandomEnv(), GlobalRandomEnv()]
    given[0].reset(seed=1)
    given[0].action_space.seed(1)
    before = [given[0].np_random.bit_generator.state, given[0].action_space.np_random.bit_generator.state]
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002  As above.
    expected = (random.Random(5).random(), np.random.RandomState(5).random_sample())
    open_environments(given)
    assert (random.random(), np.random.random()) == expected  # noqa: NPY002  As above.
    assert before == [given[0].np_random.bit_generator.state, given[0].action_space.np_random.bit_generator.state]
    assert given[0].step_count == 0
    assert given[0].episode == 0
