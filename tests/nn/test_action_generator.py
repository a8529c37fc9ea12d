from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_framework.nn.action_generator import ActionGenerator, Perturbation
from rl_framework.nn.control_features import ControlFeatures
from rl_framework.nn.network_shape import NetworkShape

ACTIONS = spaces.Box(-1.0, 1.0, (2,), np.float32)
FEATURES = ControlFeatures(spaces.Box(-1.0, 1.0, (3,), np.float32))
SHAPE = NetworkShape(hidden_sizes=(16,))


def test_codes_have_twice_as_many_numbers_as_actions_and_count_up_to_a_half() -> None:
    generator = ActionGenerator(ACTIONS, SHAPE, FEATURES)
    observations = torch.randn(5, 3)
    assert generator.n_codes == 4
    far = generator.decode(observations, torch.full((5, 4), 9.0))
    assert torch.equal(far, generator.decode(observations, torch.full((5, 4), 0.5)))
    assert not torch.equal(far, generator.decode(observations, torch.zeros(5, 4)))
    assert far.shape == (5, 2)
    assert float(far.detach().abs().max()) < 1.0


def test_actions_come_back_through_codes_that_were_learned() -> None:
    torch.manual_seed(0)
    generator = ActionGenerator(ACTIONS, NetworkShape(hidden_sizes=(64,)), FEATURES)
    observations, actions = torch.randn(64, 3), torch.rand(64, 2) * 1.6 - 0.8
    optimizer = torch.optim.Adam(generator.parameters(), lr=1e-2)
    for _ in range(200):
        again, _, _ = generator(observations, actions, torch.zeros(64, 4))
        optimizer.zero_grad()
        (again - actions).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        again, _, _ = generator(observations, actions, torch.zeros(64, 4))
    assert float((again - actions).square().mean()) < 0.01


@pytest.mark.parametrize("largest", [0.0, 0.05, 0.4])
def test_actions_are_moved_no_further_than_said_and_stay_within_bounds(largest: float) -> None:
    perturbation = Perturbation(ACTIONS, SHAPE, FEATURES, largest=largest)
    with torch.no_grad():
        for parameter in perturbation.parameters():
            parameter.mul_(30.0)
    actions = torch.linspace(-1.0, 1.0, 200).view(100, 2)
    moved = perturbation(torch.randn(100, 3), actions).detach()
    distances = (moved - actions).abs()
    assert float(distances.max()) == pytest.approx(largest, abs=1e-6)
    assert float(moved.abs().max()) <= 1.0
