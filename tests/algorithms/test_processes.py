"""A process that trains alone, and the seeds of those that do not."""

from __future__ import annotations

import math

import torch
from torch import nn

from rl_framework.algorithms.processes import OneProcess, Processes, process_seed


def test_sum_of_one_process_is_a_new_tensor_without_gradient() -> None:
    processes: Processes = OneProcess()
    numbers = torch.arange(3.0, requires_grad=True)
    total = processes.sum(numbers)
    total += 1.0
    assert torch.equal(numbers, torch.arange(3.0))
    assert not total.requires_grad
    assert (processes.rank, processes.count) == (0, 1)


def test_one_process_changes_nothing() -> None:
    processes = OneProcess()
    model = nn.Linear(2, 2)
    model.weight.grad = torch.ones(2, 2)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    processes.share_weights(list(model.parameters()))
    processes.sum_gradients(list(model.parameters()))
    processes.wait()
    assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))
    assert torch.equal(model.weight.grad, torch.ones(2, 2))
    assert model.bias.grad is None


def test_largest_number_of_one_process_is_its_own() -> None:
    assert OneProcess().largest(-2.5) == -2.5
    assert math.isnan(OneProcess().largest(math.nan))


def test_each_process_has_a_seed_of_its_own_and_the_first_keeps_the_given_one() -> None:
    seeds = [process_seed(seed, rank) for seed in (0, 1, 7) for rank in range(8)]
    assert len(set(seeds)) == 24
    assert [process_seed(7, rank) for rank in range(8)] == seeds[16:]
    assert seeds[0::8] == [0, 1, 7]
