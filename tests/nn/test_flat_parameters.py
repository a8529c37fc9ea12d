"""Parameters in one buffer: nothing but their place changes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rl_framework.errors import InvalidInputError
from rl_framework.nn.flat_parameters import LINE, FlatParameters, flat_values, flatten_parameters


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Conv1d(7, 3, 1))


def test_values_and_gradients_stay_what_they_were() -> None:
    module = network()
    before = [parameter.clone() for parameter in module.parameters()]
    first = next(module.parameters())
    first.grad = torch.ones_like(first)
    flat = flatten_parameters(module)
    for parameter, value in zip(module.parameters(), before, strict=True):
        assert torch.equal(parameter, value)
        assert parameter.data_ptr() % (4 * LINE) == flat.values.data_ptr() % (4 * LINE)
    assert float(flat.gradients.sum()) == 35.0


def test_the_buffers_are_the_parameters() -> None:
    module = network()
    flat = flatten_parameters(module)
    module(torch.ones(1, 7, 5)[:, :, :].mT.mT).sum().backward()
    assert float(flat.gradients.abs().sum()) == pytest.approx(
        sum(float(parameter.grad.abs().sum()) for parameter in module.parameters() if parameter.grad is not None)
    )
    flat.forget()
    assert not any(bool(parameter.grad.any()) for parameter in module.parameters() if parameter.grad is not None)
    flat.values.zero_()
    assert not any(bool(parameter.any()) for parameter in module.parameters())
    flat.check()


def test_flat_parameters_stay_where_they_are() -> None:
    module = network()
    flat = flatten_parameters(module)
    again, whole = flatten_parameters(module), flat_values(tuple(module.parameters()))
    assert flat.values.data_ptr() == again.values.data_ptr() == whole.data_ptr()
    assert flat.gradients.data_ptr() == again.gradients.data_ptr()
    assert flat.values.shape == again.values.shape == whole.shape
    part = flatten_parameters(module[2])
    assert part.values.data_ptr() == next(module[2].parameters()).data_ptr()
    part.values.fill_(3.0)
    assert float(flat.values.max()) == 3.0
    flat.check()


def test_others_are_moved() -> None:
    module = network()
    parameters = list(module.parameters())
    first, second = FlatParameters(parameters[:2]), FlatParameters(parameters[2:])
    joined = FlatParameters(parameters)
    assert len(joined.values) == len(first.values) + len(second.values)
    joined.values.zero_()
    assert not any(bool(parameter.any()) for parameter in parameters)
    for stale in (first, second):
        with pytest.raises(InvalidInputError, match="no longer"):
            stale.check()


def test_lost_gradients_are_noticed() -> None:
    module = network()
    flat = flatten_parameters(module)
    module.zero_grad()
    with pytest.raises(InvalidInputError, match="forget"):
        flat.check()


def test_only_float_parameters_of_one_device_are_taken() -> None:
    with pytest.raises(InvalidInputError, match="none"):
        FlatParameters([])
    with pytest.raises(InvalidInputError, match="float64"):
        FlatParameters(network().double().parameters())
