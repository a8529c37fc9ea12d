"""Gradients are cut as torch cuts them."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from rl_framework.algorithms.gradients import FEW_NUMBERS, cut_gradients, forget_gradients
from rl_framework.algorithms.host_access import HostAccessRefused


def parameters(n: int) -> list[nn.Parameter]:
    """Some with gradients, also one that does not lie in one piece, and one without."""
    generator = torch.Generator().manual_seed(n)
    found = [nn.Parameter(torch.zeros(shape)) for shape in ((n, 3), (5,), (), (2, 4), (7,))]
    for parameter in found[:3]:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    found[3].grad = torch.randn(4, 2, generator=generator).t()
    return found


@pytest.mark.parametrize("n", [4, FEW_NUMBERS])
@pytest.mark.parametrize("limit", [1e-3, 0.9, 1.1, None])
@pytest.mark.parametrize("may_look", [False, True])
def test_gradients_are_cut_to_a_length(n: int, limit: float | None, *, may_look: bool) -> None:
    ours = parameters(n)
    theirs = copy.deepcopy(ours)
    for one, other in zip(ours, theirs, strict=True):
        other.grad = None if one.grad is None else one.grad.clone()
    length = float(torch.cat([each.grad.reshape(-1) for each in theirs if each.grad is not None]).norm())
    bound = None if limit is None else limit * length
    if bound is not None:
        nn.utils.clip_grad_norm_(theirs, bound)
    with nullcontext() if may_look else HostAccessRefused(torch.device("cpu")):
        found = cut_gradients(ours, bound, may_look=may_look)
    assert float(found) == pytest.approx(length, rel=1e-5)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_without_gradients_there_is_nothing_to_cut() -> None:
    found = parameters(4)
    forget_gradients(found)
    assert all(parameter.grad is None for parameter in found)
    assert float(cut_gradients(found, 0.5)) == 0.0
