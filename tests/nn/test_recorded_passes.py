"""What is written down by hand gives the gradients of automatic differentiation, and leaves to it what it must."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rl_framework.nn.continuous_distributions import DiagonalGaussian, SquashedNormal
from rl_framework.nn.discrete_distributions import Categorical
from rl_framework.nn.mlp import MLP
from rl_framework.nn.recorded_passes import backward, is_recorded, recorded_passes

ROWS = 300


class Reversed(torch.autograd.Function):
    """The same numbers, in the same memory, with the opposite gradient."""

    @staticmethod
    def forward(ctx: Any, numbers: Tensor) -> Tensor:
        return numbers.view_as(numbers)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return -gradient


@pytest.fixture
def nets() -> tuple[MLP, MLP]:
    torch.manual_seed(5)
    net = MLP(3, (16, 4), nn.Tanh)
    return net, copy.deepcopy(net)


@pytest.fixture
def refuses_to_differentiate(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("Automatic differentiation was called.")

    monkeypatch.setattr(torch.autograd, "backward", refuse)


def assert_same_gradients(nets: tuple[MLP, MLP]) -> None:
    for one, other in zip(*(net.parameters() for net in nets), strict=True):
        assert one.grad is not None
        torch.testing.assert_close(one.grad, other.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("wanted", [(0, 1), (0,), (1,), ()])
@pytest.mark.parametrize("rows", [3, ROWS])
@pytest.mark.usefixtures("refuses_to_differentiate")
def test_scores_of_choices_know_their_way_back(nets: tuple[MLP, MLP], rows: int, wanted: tuple[int, ...]) -> None:
    features, choices, slopes = torch.randn(rows, 3), torch.randint(0, 4, (rows,)), torch.randn(2, rows)
    with recorded_passes():
        found = Categorical(nets[0](features)).log_prob_and_entropy(choices)
        backward([found[index].view(1, -1) for index in wanted], [slopes[index].view(1, -1) for index in wanted])
    expected = Categorical(nets[1](features)).log_prob_and_entropy(choices)
    torch.testing.assert_close(found, expected)
    if not wanted:
        assert all(parameter.grad is None for parameter in nets[0].parameters())
        return
    parameters = list(nets[1].parameters())
    total = torch.stack([(expected[index] * slopes[index]).sum() for index in wanted]).sum()
    for parameter, gradient in zip(parameters, torch.autograd.grad(total, parameters), strict=True):
        parameter.grad = gradient
    assert_same_gradients(nets)


@pytest.mark.parametrize("wanted", [(0, 1), (0,), (1,)])
@pytest.mark.parametrize("log_unit", [0.0, 0.7])
@pytest.mark.usefixtures("refuses_to_differentiate")
def test_scores_of_numbers_know_their_way_back(nets: tuple[MLP, MLP], log_unit: float, wanted: tuple[int, ...]) -> None:
    """To the network that gave the means, and to the standard deviations, which are parameters."""
    features, targets, slopes = torch.randn(ROWS, 3), torch.randn(ROWS, 4), torch.randn(2, ROWS)
    spreads = [nn.Parameter(torch.tensor([0.1, -0.2, 0.3, 0.0])) for _ in nets]
    with recorded_passes():
        found = DiagonalGaussian(nets[0](features), spreads[0], log_unit).log_prob_and_entropy(targets)
        backward([found[index] for index in wanted], [slopes[index] for index in wanted])
    gaussian = DiagonalGaussian(nets[1](features), spreads[1], log_unit)
    expected = gaussian.log_prob(targets), gaussian.entropy()
    torch.testing.assert_close(found, expected)
    learned = [spreads[1], *(nets[1].parameters() if 0 in wanted else ())]
    total = torch.stack([(expected[index] * slopes[index]).sum() for index in wanted]).sum()
    for parameter, gradient in zip(learned, torch.autograd.grad(total, learned), strict=True):
        parameter.grad = gradient
    torch.testing.assert_close(spreads[0].grad, spreads[1].grad, atol=1e-4, rtol=1e-4)
    if 0 in wanted:
        assert_same_gradients(nets)
    else:
        assert not any(parameter.grad.any() for parameter in nets[0].parameters() if parameter.grad is not None)


def test_gradients_of_parameters_are_added_to_where_they_lie(nets: tuple[MLP, MLP]) -> None:
    """Optimisers may look at them through one long tensor."""
    learned = [nn.Parameter(torch.zeros(4)), *nets[0].parameters()]
    flat = [torch.ones_like(parameter) for parameter in learned]
    for parameter, place in zip(learned, flat, strict=True):
        parameter.grad = place
    with recorded_passes():
        scores = DiagonalGaussian(nets[0](torch.randn(ROWS, 3)), learned[0]).log_prob_and_entropy(torch.randn(ROWS, 4))
        backward(scores, (torch.ones(ROWS), torch.ones(ROWS)))
    for parameter, place in zip(learned, flat, strict=True):
        assert parameter.grad is place
        assert not torch.equal(place, torch.ones_like(place))


@pytest.mark.parametrize("kind", [DiagonalGaussian, SquashedNormal])
@pytest.mark.parametrize("spread_from", ["a parameter", "something made of one", "the network"])
def test_numbers_whose_spread_is_no_parameter_and_what_is_made_of_scores_are_left_to_automatic_differentiation(
    nets: tuple[MLP, MLP], kind: type[DiagonalGaussian], spread_from: str
) -> None:
    features, targets = torch.randn(ROWS, 3), torch.rand(ROWS, 4) - 0.5
    spreads = [nn.Parameter(torch.zeros(4)) for _ in nets]
    for net, spread, ways in zip(nets, spreads, (True, False), strict=True):
        with recorded_passes() if ways else torch.enable_grad():
            outputs = net(features)
            mean, log_std = {
                "a parameter": (outputs, spread),
                "something made of one": (outputs, spread.exp()),
                "the network": (outputs[:, :2], outputs[:, 2:]),
            }[spread_from]
            log_prob, entropy = kind(mean, log_std).log_prob_and_entropy(targets[:, : mean.shape[1]])
            backward((log_prob.square().mean(), (entropy * log_prob).sum()), (None, None))
    torch.testing.assert_close(spreads[0].grad, spreads[1].grad, atol=1e-3, rtol=1e-4)
    assert_same_gradients(nets)


def test_masked_choices_and_whatever_else_is_made_of_outputs_are_left_to_automatic_differentiation(
    nets: tuple[MLP, MLP],
) -> None:
    features, choices, masks = torch.randn(ROWS, 3), torch.zeros(ROWS, dtype=torch.int64), torch.ones(ROWS, 4).bool()
    masks[:, 3] = False
    found = []
    for net, ways in zip(nets, (True, False), strict=True):
        with recorded_passes() if ways else torch.enable_grad():
            log_prob, entropy = Categorical(net(features), masks).log_prob_and_entropy(choices)
            loss = log_prob.square().mean() + (entropy * log_prob).sum()
            backward((loss,), (None,))
            found.append(loss.item())
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert_same_gradients(nets)


def test_outputs_may_be_used_in_several_ways_at_once(nets: tuple[MLP, MLP]) -> None:
    features, choices = torch.randn(ROWS, 3), torch.zeros(ROWS, dtype=torch.int64)
    for net, ways in zip(nets, (True, False), strict=True):
        with recorded_passes() if ways else torch.enable_grad():
            logits = net(features)
            log_prob, _ = Categorical(logits).log_prob_and_entropy(choices)
            values = (log_prob, logits, logits.square().sum())
            backward(values, (torch.ones(ROWS), torch.full((ROWS, 4), 0.5), None))
    assert_same_gradients(nets)


def test_the_same_numbers_with_another_gradient_are_not_taken_for_the_outputs(nets: tuple[MLP, MLP]) -> None:
    features, slopes = torch.randn(ROWS, 3), torch.randn(ROWS, 4)
    with recorded_passes():
        backward((Reversed.apply(nets[0](features)),), (slopes,))  # type: ignore[no-untyped-call]
    nets[1](features).backward(-slopes)
    assert_same_gradients(nets)


def test_values_that_nothing_is_learned_from_are_passed_over(nets: tuple[MLP, MLP]) -> None:
    features = torch.randn(ROWS, 3)
    with recorded_passes():
        backward((torch.ones(ROWS), nets[0](features)), (torch.ones(ROWS), torch.ones(ROWS, 4)))
    nets[1](features).sum().backward()
    assert_same_gradients(nets)


def test_what_was_recorded_is_forgotten_with_the_block(nets: tuple[MLP, MLP]) -> None:
    with recorded_passes():
        outputs = nets[0](torch.randn(ROWS, 3))
        assert is_recorded(outputs)
        assert not is_recorded(outputs.clone())
    assert not is_recorded(outputs)
