"""Memory that one pass leaves to the next."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn

from rl_framework.nn.mlp import FEWEST_BORROWED, MLP
from rl_framework.nn.recorded_passes import backward, recorded_passes
from rl_framework.nn.scratch import MOST_NUMBERS, Scratch

FLOAT = torch.float32


def test_what_is_given_back_is_lent_again() -> None:
    scratch = Scratch()
    first = scratch.borrow(3, 4, dtype=FLOAT)
    scratch.give_back([first])
    assert scratch.borrow(3, 4, dtype=FLOAT) is first
    assert scratch.borrow(3, 4, dtype=FLOAT) is not first


def test_only_what_has_the_shape_and_the_type_is_lent() -> None:
    scratch = Scratch()
    scratch.give_back([torch.empty(3, 4)])
    assert scratch.borrow(4, 3, dtype=FLOAT).shape == (4, 3)
    assert scratch.borrow(3, 4, dtype=torch.float64).dtype == torch.float64


def test_it_does_not_keep_without_end() -> None:
    scratch = Scratch()
    large = [torch.empty(MOST_NUMBERS // 2 + rows, 1) for rows in range(3)]
    scratch.give_back(large)
    assert scratch.borrow(len(large[-1]), 1, dtype=FLOAT) is large[-1]
    assert scratch.borrow(len(large[0]), 1, dtype=FLOAT) is not large[0]
    too_large = torch.empty(MOST_NUMBERS + 1, 1)
    scratch.give_back([too_large])
    assert scratch.borrow(len(too_large), 1, dtype=FLOAT) is not too_large


def test_each_thread_has_its_own() -> None:
    scratch = Scratch()
    mine = scratch.borrow(3, 4, dtype=FLOAT)
    scratch.give_back([mine])
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(scratch.borrow, 3, 4, dtype=FLOAT).result() is not mine


def test_two_passes_at_a_time_do_not_write_into_each_other() -> None:
    torch.manual_seed(0)
    net, head = MLP(3, (16, 8), nn.Tanh), nn.Linear(8, 2)
    inputs = torch.randn(2, FEWEST_BORROWED, 3)
    alone = [_gradients(net, head, [one]) for one in inputs]
    together = _gradients(net, head, list(inputs))
    for first, second, both in zip(*alone, together, strict=True):
        torch.testing.assert_close(both, first + second)


def test_outputs_stay_what_they_were() -> None:
    net, inputs = MLP(3, (16, 8), nn.ReLU), torch.randn(FEWEST_BORROWED, 3)
    with torch.no_grad():
        outputs = net(inputs)
        before = outputs.clone()
        net(inputs + 1.0)
    assert torch.equal(outputs, before)


def _gradients(net: MLP, head: nn.Linear, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """Of the sum of squares, after all forward passes came before all backward passes."""
    parameters = [*net.parameters(), *head.parameters()]
    for parameter in parameters:
        parameter.grad = None
    with recorded_passes():
        for loss in [net.into(head, one).square().sum() for one in inputs]:
            backward((loss,), (None,))
    return [parameter.grad for parameter in parameters if parameter.grad is not None]
