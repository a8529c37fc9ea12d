"""The layers with their gradient written out are the layers that torch would run one by one."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from rl_framework.nn.flat_parameters import FlatParameters
from rl_framework.nn.mlp import FEWEST_ROWS, MLP
from rl_framework.nn.recorded_passes import backward, recorded_passes
from rl_framework.nn.stacked_mlp import StackedMLP

ACTIVATIONS = (nn.Tanh, nn.ReLU, nn.ELU)


def layers(n_inputs: int, sizes: tuple[int, ...], activation: type[nn.Module]) -> tuple[MLP, nn.Linear]:
    torch.manual_seed(3)
    return MLP(n_inputs, sizes, activation), nn.Linear((n_inputs, *sizes)[-1], 2)


def plainly(mlp: MLP, last: nn.Linear | None, features: Tensor) -> Tensor:
    hidden: Tensor = nn.Sequential.forward(mlp, features)  # type: ignore[no-untyped-call]
    return hidden if last is None else last(hidden)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("sizes", [(), (8,), (16, 8)])
@pytest.mark.parametrize("n_inputs", [1, 5, 40])
@pytest.mark.parametrize("has_last", [True, False])
@pytest.mark.parametrize("rows", [3, FEWEST_ROWS])
def test_outputs_and_gradients_are_those_of_the_layers(
    activation: type[nn.Module], sizes: tuple[int, ...], n_inputs: int, has_last: bool, rows: int
) -> None:
    mlp, last = layers(n_inputs, sizes, activation)
    twin, twin_last = copy.deepcopy((mlp, last))
    features = torch.randn(rows, n_inputs, requires_grad=True)
    same = features.detach().clone().requires_grad_()
    ours = mlp.into(last, features) if has_last else mlp(features)
    theirs = plainly(twin, twin_last if has_last else None, same)
    torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-5)
    weights = torch.randn_like(ours)
    (ours * weights).sum().backward()
    (theirs * weights).sum().backward()  # type: ignore[no-untyped-call]
    pairs = [(features, same), *zip(mlp.parameters(), twin.parameters(), strict=True)]
    for one, other in pairs:
        torch.testing.assert_close(one.grad, other.grad, atol=2e-4, rtol=1e-4)
    with torch.no_grad():
        again = mlp.into(last, features) if has_last else mlp(features)
    torch.testing.assert_close(again, ours, atol=2e-6, rtol=1e-5)


def test_the_gradient_that_comes_in_is_left_alone() -> None:
    mlp, _ = layers(4, (8,), nn.Tanh)
    features = torch.randn(FEWEST_ROWS, 4)
    incoming = torch.ones(FEWEST_ROWS, 8)
    mlp(features).backward(incoming)
    assert bool((incoming == 1.0).all())


def test_gradients_add_up_over_several_backward_passes() -> None:
    mlp, last = layers(4, (8, 8), nn.Tanh)
    features = torch.randn(2 * FEWEST_ROWS, 4)
    mlp.into(last, features).sum().backward()  # type: ignore[no-untyped-call]
    whole = [parameter.grad.clone() for parameter in mlp.parameters() if parameter.grad is not None]
    mlp.zero_grad()
    for part in torch.split(features, FEWEST_ROWS):
        mlp.into(last, part).sum().backward()  # type: ignore[no-untyped-call]
    for parameter, expected in zip(mlp.parameters(), whole, strict=True):
        torch.testing.assert_close(parameter.grad, expected, atol=1e-3, rtol=1e-4)


def test_mixed_precision_takes_the_layers_one_by_one() -> None:
    mlp, last = layers(4, (8,), nn.Tanh)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert mlp.into(last, torch.randn(FEWEST_ROWS, 4)).dtype == torch.bfloat16


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("sizes", [(), (8,), (16, 8)])
@pytest.mark.parametrize("has_last", [True, False])
@pytest.mark.parametrize("rows", [3, FEWEST_ROWS])
def test_gradients_of_recorded_passes_are_those_of_the_layers(
    activation: type[nn.Module], sizes: tuple[int, ...], has_last: bool, rows: int
) -> None:
    mlp, last = layers(5, sizes, activation)
    twin, twin_last = copy.deepcopy((mlp, last))
    features = torch.randn(rows, 5)
    for _ in range(2):
        with recorded_passes():
            ours = mlp.into(last, features) if has_last else mlp(features)
            theirs = plainly(twin, twin_last if has_last else None, features)
            torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-5)
            gradient = torch.randn_like(ours)
            backward((ours.square(), ours.neg()), (gradient, gradient))
        if theirs.requires_grad:
            (theirs.square() - theirs).backward(gradient)  # type: ignore[no-untyped-call]
    pairs = zip([*mlp.parameters(), *last.parameters()], [*twin.parameters(), *twin_last.parameters()], strict=True)
    for one, other in pairs:
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, atol=2e-4, rtol=1e-4)


def test_layers_that_are_frozen_or_feed_on_others_take_the_common_way() -> None:
    mlp, last = layers(4, (8,), nn.Tanh)
    frozen = next(iter(mlp.parameters())).requires_grad_(False)
    features = torch.randn(FEWEST_ROWS, 4, requires_grad=True)
    with recorded_passes():
        backward((mlp.into(last, features).sum(),), (None,))
    assert frozen.grad is None
    assert features.grad is not None
    assert last.weight.grad is not None


def test_outside_of_the_block_gradients_are_there_for_anyone_to_ask() -> None:
    mlp, last = layers(4, (8,), nn.Tanh)
    features = torch.randn(FEWEST_ROWS, 4)
    with recorded_passes():
        pass
    (found,) = torch.autograd.grad(mlp.into(last, features).sum(), [last.weight])
    assert found.shape == last.weight.shape


def test_a_recorded_pass_takes_gradients_by_its_outputs_without_touching_them() -> None:
    mlp, _ = layers(4, (8,), nn.Tanh)
    twin = copy.deepcopy(mlp)
    features, incoming = torch.randn(FEWEST_ROWS, 4), torch.ones(FEWEST_ROWS, 8)
    with recorded_passes():
        backward((mlp(features),), (incoming,))
    assert bool((incoming == 1.0).all())
    plainly(twin, None, features).backward(incoming)  # type: ignore[no-untyped-call]
    for one, other in zip(mlp.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=2e-4, rtol=1e-4)


def test_layers_and_stacks_are_recorded_side_by_side() -> None:
    mlp, stack = layers(4, (8,), nn.Tanh)[0], StackedMLP(2, 4, (8,), 3)
    twins = copy.deepcopy((mlp, stack))
    FlatParameters(stack.parameters())
    features = torch.randn(FEWEST_ROWS, 4)
    with recorded_passes():
        backward((mlp(features).sum() + stack(features).square().sum(),), (None,))
    (twins[0](features).sum() + twins[1](features).square().sum()).backward()
    for net, twin in zip((mlp, stack), twins, strict=True):
        for one, other in zip(net.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, atol=2e-4, rtol=1e-4)
