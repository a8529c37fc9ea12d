"""Steps taken directly are those of the optimiser, bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from rl_framework.algorithms.fused_adam import OptimizerSteps

MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]

OPTIMISERS: dict[str, MakeOptimizer] = {
    "Adam": lambda weights: torch.optim.Adam(weights, lr=0.1, eps=1e-5, fused=True),
    "with decay": lambda weights: torch.optim.Adam(weights, lr=0.1, weight_decay=0.1, maximize=True, fused=True),
    "AdamW": lambda weights: torch.optim.AdamW(weights, lr=0.1, betas=(0.5, 0.9), fused=True),
    "amsgrad": lambda weights: torch.optim.Adam(weights, lr=0.1, amsgrad=True, fused=True),
    "in a loop": lambda weights: torch.optim.Adam(weights, lr=0.1, foreach=False),
    "two groups": lambda weights: torch.optim.Adam([{"params": [weight]} for weight in weights], fused=True),
    "SGD": lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9),
}


@pytest.mark.parametrize("make", OPTIMISERS.values(), ids=list(OPTIMISERS))
def test_steps_are_those_of_the_optimiser(make: MakeOptimizer) -> None:
    ours, theirs = _pair(make)
    steps = OptimizerSteps(ours)
    for number in range(4):
        for optimizer in (ours, theirs):
            _set(optimizer, number)
        steps.take()
        theirs.step()
    _assert_same(ours, theirs)


def test_a_loaded_state_is_gone_on_from() -> None:
    ours, theirs = _pair(OPTIMISERS["Adam"])
    steps = OptimizerSteps(ours)
    state = copy.deepcopy(_after(theirs, 5).state_dict())
    for number in range(3):
        _set(ours, number)
        steps.take()
    ours.load_state_dict(state)
    for mine, other in zip(_weights(ours), _weights(theirs), strict=True):
        mine.data.copy_(other.data)
    _set(ours, 7)
    _set(theirs, 7)
    steps.take()
    theirs.step()
    _assert_same(ours, theirs)


def test_a_state_that_was_taken_away_is_made_anew() -> None:
    ours, theirs = _pair(OPTIMISERS["Adam"])
    steps = OptimizerSteps(ours)
    for number in range(3):
        _set(ours, number)
        steps.take()
    ours.state.clear()
    for mine, other in zip(_weights(ours), _weights(theirs), strict=True):
        mine.data.copy_(other.data)
    for number in range(3):
        _set(ours, number)
        _set(theirs, number)
        steps.take()
        theirs.step()
    _assert_same(ours, theirs)


def test_a_parameter_without_a_gradient_stays() -> None:
    ours, theirs = _pair(OPTIMISERS["Adam"])
    steps = OptimizerSteps(ours)
    for number in range(3):
        for optimizer in (ours, theirs):
            _set(optimizer, number)
            _weights(optimizer)[0].grad = None if number == 2 else _weights(optimizer)[0].grad
        steps.take()
        theirs.step()
    _assert_same(ours, theirs)


def test_hooks_are_told_of_every_step() -> None:
    optimizer, _ = _pair(OPTIMISERS["Adam"])
    steps, told = OptimizerSteps(optimizer), []
    for number in range(3):
        _set(optimizer, number)
        steps.take()
    optimizer.register_step_post_hook(lambda *_: told.append(1))
    steps.take()
    assert told == [1]


def _pair(make: MakeOptimizer) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(5))]
    return make(weights), make(copy.deepcopy(weights))


def _weights(optimizer: torch.optim.Optimizer) -> list[Any]:
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def _set(optimizer: torch.optim.Optimizer, number: int) -> None:
    """Gradients that depend on the number, and a learning rate as well."""
    generator = torch.Generator().manual_seed(number)
    for weight in _weights(optimizer):
        weight.grad = torch.randn(weight.shape, generator=generator)
    for group in optimizer.param_groups:
        group["lr"] = 0.1 / (1 + number)


def _after(optimizer: torch.optim.Optimizer, n_steps: int) -> torch.optim.Optimizer:
    for number in range(n_steps):
        _set(optimizer, number)
        optimizer.step()
    return optimizer


def _assert_same(ours: torch.optim.Optimizer, theirs: torch.optim.Optimizer) -> None:
    for mine, other in zip(_weights(ours), _weights(theirs), strict=True):
        assert torch.equal(mine, other)
        for name, value in theirs.state[other].items():
            assert torch.equal(torch.as_tensor(ours.state[mine][name]), torch.as_tensor(value))
