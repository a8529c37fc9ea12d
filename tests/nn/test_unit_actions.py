"""Unit actions and the environment's: there and back, within bounds."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_framework.errors import SpaceError
from rl_framework.nn.unit_actions import UnitActions


def test_bounds_are_minus_one_and_one() -> None:
    unit = UnitActions(spaces.Box(np.array([[0.0], [-3.0]]), np.array([[10.0], [1.0]]), dtype=np.float64))
    assert (unit.width, unit.is_discrete) == (2, False)
    actions = unit.to_environment(torch.tensor([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.5], [-2.0, 7.0]]))
    assert actions.dtype == torch.float64
    wanted = torch.tensor([[[0.0], [-3.0]], [[10.0], [1.0]], [[5.0], [0.0]], [[0.0], [1.0]]], dtype=torch.float64)
    torch.testing.assert_close(actions, wanted)
    back = unit.from_environment(actions)
    assert back.dtype == torch.float32
    torch.testing.assert_close(back, torch.tensor([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.5], [-1.0, 1.0]]))
    assert float(unit.from_environment(torch.full((1, 2, 1), 99.0)).max()) == 1.0


def test_actions_are_in_their_space() -> None:
    space = spaces.Box(np.array([-0.1, 3.0], np.float32), np.array([0.3, 3.7], np.float32))
    unit = UnitActions(space)
    generator = torch.Generator().manual_seed(0)
    corners = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    for action in unit.to_environment(torch.cat([unit.uniform(500, generator), corners])).numpy():
        assert space.contains(action)


def test_choices_are_counted_from_zero() -> None:
    unit = UnitActions(spaces.Discrete(3, start=-1))
    assert (unit.width, unit.is_discrete) == (3, True)
    assert unit.to_environment(torch.tensor([0, 1, 2])).tolist() == [-1, 0, 1]
    assert unit.from_environment(torch.tensor([-1, 1])).tolist() == [0, 2]


def test_uniform_actions_are_uniform() -> None:
    generator = torch.Generator().manual_seed(0)
    numbers = UnitActions(spaces.Box(-5.0, 5.0, (2,))).uniform(50_000, generator)
    counts = torch.histc(numbers, 20, -1.0, 1.0)
    assert float(((counts - 5000.0).square() / 5000.0).sum()) < 43.8  # chi-square, 19 degrees of freedom, p = 0.001
    choices = UnitActions(spaces.Discrete(5, start=2)).uniform(50_000, generator)
    counts = torch.bincount(choices, minlength=5).float()
    assert len(counts) == 5
    assert float(((counts - 10_000.0).square() / 10_000.0).sum()) < 18.5  # 4 degrees of freedom


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-np.inf, np.inf, (2,), np.float32),
        spaces.Box(np.array([0.0, 1.0], np.float32), np.array([1.0, 1.0], np.float32)),
        spaces.MultiDiscrete([2, 3]),
        spaces.Dict({"a": spaces.Discrete(2)}),
    ],
)
def test_other_spaces_are_refused(space: gym.Space[Any]) -> None:
    with pytest.raises(SpaceError, match="finite bounds"):
        UnitActions(space)
