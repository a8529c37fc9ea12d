from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from rl_framework.errors import SpaceError
from rl_framework.rollouts.actions import ActionCheck

MULTI = spaces.MultiDiscrete([2, 3], start=[0, 5])
NEST = spaces.Dict({"move": spaces.Box(-1.0, 1.0, (2,)), "keys": spaces.Tuple([spaces.MultiBinary(3), MULTI])})


@pytest.mark.parametrize("space", [spaces.Discrete(3, start=-1), MULTI, spaces.MultiBinary(4), spaces.Box(-1, 1, (2,))])
def test_samples_of_the_space_pass(space: Any) -> None:
    check = ActionCheck(space, 50)
    check(np.stack([space.sample() for _ in range(50)]))


def test_a_box_may_be_left() -> None:
    ActionCheck(spaces.Box(-1.0, 1.0, (1,)), 2)(np.array([[5.0], [-7.0]]))


@pytest.mark.parametrize("action", [[0, 4], [2, 5], [0, 8]])
def test_each_choice_of_a_multi_discrete_is_checked(action: list[int]) -> None:
    with pytest.raises(SpaceError, match="choice"):
        ActionCheck(MULTI, 1)(np.array([action]))


def test_a_nest_is_checked_leaf_by_leaf() -> None:
    actions = {"move": np.zeros((2, 2)), "keys": (np.zeros((2, 3), int), np.array([[0, 5], [1, 9]]))}
    with pytest.raises(SpaceError, match=r"choice 9 as 'keys\.1'"):
        ActionCheck(NEST, 2)(actions)


@pytest.mark.parametrize("actions", [{"move": np.zeros((1, 2))}, np.zeros((1, 2)), {"x": 0, "y": 0, "z": 0}])
def test_another_structure_is_refused(actions: Any) -> None:
    with pytest.raises(SpaceError, match=r"parts|lack"):
        ActionCheck(NEST, 1)(actions)
