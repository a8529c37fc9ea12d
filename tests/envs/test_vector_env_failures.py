"""What goes wrong in an environment, or in the calls to it, on both back-ends."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from rl_framework.envs.serial import SerialVectorEnv
from rl_framework.errors import (
    EnvironmentFailure,
    InvalidInputError,
    InvalidNumberError,
    RLFrameworkError,
)
from rl_framework.testing.environments import (
    AnySpaceEnv,
    CountingEnv,
    InvalidNumberEnv,
    RaisingEnv,
)
from tests.envs.backends import Opener, step


def test_a_raising_environment_is_named_and_all_is_closed(opened: Opener) -> None:
    environments = opened(CountingEnv, partial(RaisingEnv, 2))
    environments.reset(seed=0)
    for _ in range(2):
        step(environments, [0, 0])
    with pytest.raises(EnvironmentFailure, match="ZeroDivisionError: deliberate failure") as caught:
        step(environments, [0, 0])
    assert (caught.value.row, caught.value.step) == (1, 3)
    with pytest.raises(RLFrameworkError, match="closed"):
        environments.reset()


def test_an_environment_that_raises_in_reset_is_named(opened: Opener) -> None:
    environments = opened(CountingEnv, partial(RaisingEnv, -1))
    with pytest.raises(EnvironmentFailure, match="ZeroDivisionError") as caught:
        environments.reset(seed=0)
    assert (caught.value.row, caught.value.step) == (1, 0)


@pytest.mark.parametrize("where", ["reward", "observation"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_invalid_numbers_are_named_with_row_and_step(opened: Opener, where: Any, value: float) -> None:
    environments = opened(CountingEnv, partial(InvalidNumberEnv, 2, where, value))
    environments.reset(seed=0)
    for _ in range(2):
        step(environments, [0, 0])
    with pytest.raises(InvalidNumberError, match=f"{where}.*{value}") as caught:
        step(environments, [0, 0])
    assert (caught.value.row, caught.value.step) == (1, 3)


def test_an_invalid_number_in_a_last_observation_is_found(opened: Opener) -> None:
    environments = opened(partial(InvalidNumberEnv, 4, "observation"))
    environments.reset(seed=0)
    for _ in range(4):
        step(environments, [0])
    with pytest.raises(InvalidNumberError) as caught:
        step(environments, [0])
    assert caught.value.step == 5


def test_an_invalid_first_observation_is_found(opened: Opener) -> None:
    environments = opened(partial(InvalidNumberEnv, -1, "observation"))
    with pytest.raises(InvalidNumberError):
        environments.reset(seed=0)


class MisshapenEnv(CountingEnv):
    """Gives one number where its space says three."""

    def _observe(self) -> Any:
        return super()._observe()[:1]


class FractionEnv(CountingEnv):
    """Gives fractions where its space says whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        space: Any = spaces.Box(0, 255, (3,), np.uint8)  # Wrong on purpose.
        self.observation_space = space


def test_observations_are_never_broadcast_or_rounded() -> None:
    for env, message in ((MisshapenEnv(), r"shape \(1,\).*\(3,\)"), (FractionEnv(), "float32.*uint8")):
        with pytest.raises(EnvironmentFailure, match=message):
            SerialVectorEnv([env], owned=True).reset(seed=0)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.zeros(3, np.int64), r"shape \(2,\).*\(3,\)"),
        (np.zeros((2, 1), np.int64), "shape"),
        (np.array([0.5, 0.0]), "int64.*float64"),
    ],
)
def test_wrong_actions_are_refused_before_a_step(opened: Opener, actions: Any, message: str) -> None:
    environments = opened(CountingEnv, CountingEnv)
    environments.reset(seed=0)
    with pytest.raises(InvalidInputError, match=message):
        environments.send(actions)
    assert step(environments, [0, 0]).rewards.tolist() == [1.0, 1.0]


def test_actions_of_a_nest_need_all_parts(opened: Opener) -> None:
    space = spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Discrete(2)})
    environments = opened(partial(AnySpaceEnv, spaces.Discrete(2), space))
    environments.reset(seed=0)
    with pytest.raises(InvalidInputError, match="'a', 'b'"):
        environments.send({"a": np.zeros(1, np.int64)})


def test_verbs_out_of_order_are_refused(opened: Opener) -> None:
    environments = opened(CountingEnv)
    with pytest.raises(RLFrameworkError, match="reset"):
        environments.send(np.zeros(1, np.int64))
    environments.reset(seed=0)
    with pytest.raises(RLFrameworkError, match="send"):
        environments.recv()


def test_closing_twice_is_fine_and_using_it_afterwards_is_not(opened: Opener) -> None:
    environments = opened(CountingEnv)
    environments.reset(seed=0)
    environments.close()
    environments.close()
    with pytest.raises(RLFrameworkError, match="closed"):
        environments.send(np.zeros(1, np.int64))
