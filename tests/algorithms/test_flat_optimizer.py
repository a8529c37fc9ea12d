"""Adam over flat parameters is torch's Adam, parameter by parameter."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rl_framework.algorithms.flat_optimizer import AdamSettings, FlatAdam
from rl_framework.algorithms.host_access import HostAccessRefused
from rl_framework.errors import InvalidInputError
from rl_framework.nn.flat_parameters import flatten_parameters


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))


def loss_of(module: nn.Module, step: int) -> Tensor:
    rows = torch.randn(16, 5, generator=torch.Generator().manual_seed(step))
    found: Tensor = 30.0 * (module(rows) - rows[:, :3].sin()).square().mean()
    return found


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("value_limit", [None, 0.3])
@pytest.mark.parametrize("length_limit", [None, 0.5])
def test_steps_are_those_of_torchs_adam(
    weight_decay: float, value_limit: float | None, length_limit: float | None
) -> None:
    module = network()
    twin = copy.deepcopy(module).double()
    adam = FlatAdam(
        flatten_parameters(module),
        AdamSettings(
            learning_rate=0.01,
            betas=(0.8, 0.95),
            epsilon=1e-5,
            weight_decay=weight_decay,
            max_gradient=value_limit,
            max_gradient_norm=length_limit,
        ),
    )
    theirs = torch.optim.Adam(twin.parameters(), 0.01, (0.8, 0.95), 1e-5, weight_decay)
    for step in range(30):
        adam.minimize(loss_of(module, step))
        theirs.zero_grad()
        rows = torch.randn(16, 5, generator=torch.Generator().manual_seed(step)).double()
        (30.0 * (twin(rows) - rows[:, :3].sin()).square().mean()).backward()
        if value_limit is not None:
            nn.utils.clip_grad_value_(twin.parameters(), value_limit)
        if length_limit is not None:
            nn.utils.clip_grad_norm_(twin.parameters(), length_limit)
        theirs.step()
    for one, other in zip(module.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.double(), other, atol=2e-5, rtol=1e-4)


def test_a_saved_state_goes_on_bit_for_bit() -> None:
    module = network()
    adam = FlatAdam(flatten_parameters(module), AdamSettings(learning_rate=0.01))
    for step in range(5):
        adam.minimize(loss_of(module, step))
    adam.learning_rate.fill_(0.02)
    weights, state = copy.deepcopy(module.state_dict()), adam.state_dict()
    other = network()
    other.load_state_dict(weights)
    continued = FlatAdam(flatten_parameters(other), AdamSettings(learning_rate=0.5))
    continued.load_state_dict(state)
    for step in range(5, 10):
        adam.minimize(loss_of(module, step))
        continued.minimize(loss_of(other, step))
    assert all(map(torch.equal, module.parameters(), other.parameters()))
    assert state["steps"] == 5.0
    assert state["learning_rate"] == pytest.approx(0.02)


def test_a_state_of_other_parameters_is_refused() -> None:
    adam = FlatAdam(flatten_parameters(network()), AdamSettings())
    with pytest.raises(InvalidInputError, match="build the networks"):
        adam.load_state_dict(FlatAdam(flatten_parameters(nn.Linear(2, 2)), AdamSettings()).state_dict())


def test_what_lies_between_parameters_stays_zero() -> None:
    module = network()
    flat = flatten_parameters(module)
    adam = FlatAdam(flat, AdamSettings(learning_rate=0.1, weight_decay=0.1))
    adam.minimize(loss_of(module, 0))
    n_nonzero = int((flat.values != 0).sum())
    assert n_nonzero == sum(parameter.numel() for parameter in module.parameters())


def test_a_step_waits_for_no_device() -> None:
    module = network()
    flat = flatten_parameters(module)
    adam = FlatAdam(flat, AdamSettings(max_gradient=1.0, max_gradient_norm=1.0))
    before = flat.values.clone()
    with HostAccessRefused(torch.device("cpu")):
        adam.minimize(module(torch.ones(4, 5)).square().mean())
    assert not torch.equal(flat.values, before)


def test_gradients_that_went_elsewhere_are_noticed() -> None:
    module = network()
    adam = FlatAdam(flatten_parameters(module), AdamSettings())
    module.zero_grad()
    with pytest.raises(InvalidInputError, match="no longer"):
        adam.minimize(loss_of(module, 0))


@pytest.mark.parametrize(
    "settings",
    [
        {"learning_rate": 0.0},
        {"epsilon": -1.0},
        {"betas": (0.9, 1.0)},
        {"weight_decay": -0.1},
        {"max_gradient": 0.0},
        {"max_gradient_norm": float("nan")},
    ],
)
def test_settings_are_checked(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(settings))):
        AdamSettings(**settings)
