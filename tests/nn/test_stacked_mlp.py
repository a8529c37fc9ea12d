"""Networks in a stack are the networks one by one: what they say, and every way in which they are learned from."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from rl_framework.algorithms.host_access import HostAccessRefused
from rl_framework.errors import InvalidInputError, UnknownOptionError
from rl_framework.nn import stacked_kernels
from rl_framework.nn.flat_parameters import flatten_parameters
from rl_framework.nn.network_shape import NetworkShape
from rl_framework.nn.policy_network import ACTIVATIONS
from rl_framework.nn.recorded_passes import backward, recorded_passes
from rl_framework.nn.stacked_mlp import StackedMLP

MEMBERS, ROWS, INPUTS, ACTIONS = 3, 7, 4, 2


@pytest.fixture(autouse=True, params=[stacked_kernels.FEWEST_BORROWED, 1], ids=["new", "borrowed"])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes from layer to layer lies in memory that is new, and in memory that was in use before."""
    monkeypatch.setattr(stacked_kernels, "FEWEST_BORROWED", request.param)


def one_by_one(stack: StackedMLP, inputs: Tensor, activation: str) -> Tensor:
    """Slow twin in float64: member by member, layer by layer. `[N, F]` or `[E, N, F]` to `[E, N, n_outputs]`"""
    named = {name: parameter.double() for name, parameter in stack.named_parameters()}
    outputs = []
    for member in range(stack.n_members):
        values = inputs[member] if inputs.dim() == 3 else inputs
        for layer in range(stack.n_layers):
            values = values @ named[f"weight_{layer}"][member] + named[f"bias_{layer}"][member, 0]
            if layer == stack.n_layers - 1:
                continue
            if f"gain_{layer}" in named:
                centred = values - values.mean(1, keepdim=True)
                values = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
                values = values * named[f"gain_{layer}"][member, 0] + named[f"shift_{layer}"][member, 0]
            values = ACTIVATIONS[activation]()(values)
        outputs.append(values)
    return torch.stack(outputs)


def seeded(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def make(
    activation: str = "relu", n_outputs: int = 2, sizes: tuple[int, ...] = (16, 20), **options: bool
) -> StackedMLP:
    torch.manual_seed(5)
    stack = StackedMLP(MEMBERS, INPUTS + ACTIONS, sizes, n_outputs, activation, **options)
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return stack


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("sizes", [(), (16,), (16, 20)])
@pytest.mark.parametrize("n_outputs", [1, 2, 17])
@pytest.mark.parametrize("shared", [True, False])
def test_a_stack_is_its_members(
    activation: str, *, layer_norm: bool, sizes: tuple[int, ...], n_outputs: int, shared: bool
) -> None:
    stack = make(activation, n_outputs, sizes, layer_norm=layer_norm)
    lead = (ROWS,) if shared else (MEMBERS, ROWS)
    inputs, actions = seeded(*lead, INPUTS).requires_grad_(), seeded(*lead, ACTIONS).requires_grad_()
    factors = seeded(MEMBERS, ROWS, n_outputs)
    outputs = stack(inputs, actions)
    wanted = one_by_one(stack, torch.cat([inputs, actions], -1).double(), activation)
    torch.testing.assert_close(outputs.double(), wanted, atol=1e-5, rtol=1e-5)
    everything = [inputs, actions, *stack.parameters()]
    found = torch.autograd.grad((outputs * factors).sum(), everything)
    expected = torch.autograd.grad((wanted * factors).sum(), everything)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(stack(inputs, actions), outputs)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("members", [None, 1, 2])
def test_judging_learns_from_what_goes_in_and_from_nothing_else(
    activation: str, members: int | None, *, layer_norm: bool
) -> None:
    stack = make(activation, layer_norm=layer_norm)
    inputs, actions = seeded(ROWS, INPUTS), seeded(ROWS, ACTIONS).requires_grad_()
    whole = stack(inputs, actions)[:members]
    (expected,) = torch.autograd.grad(whole.square().sum(), [actions])
    judged = stack.judge(inputs, actions, members=members)
    torch.testing.assert_close(judged, whole)
    judged.square().sum().backward()  # type: ignore[no-untyped-call]  # torch's
    torch.testing.assert_close(actions.grad, expected)
    assert all(parameter.grad is None for parameter in stack.parameters())


def both_ways(loss: Callable[[StackedMLP], Tensor], stack: StackedMLP) -> tuple[list[Tensor], list[Tensor]]:
    """Gradients of parameters by `backward` within `recorded_passes`, and by automatic differentiation."""
    twin = copy.deepcopy(stack)
    flat = flatten_parameters(stack)
    flat.gradients.fill_(0.5)
    with recorded_passes():
        backward((loss(stack),), (None,))
    loss(twin).backward()  # type: ignore[no-untyped-call]  # torch's
    found = [parameter.grad - 0.5 for parameter in stack.parameters() if parameter.grad is not None]
    return found, [parameter.grad for parameter in twin.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
@pytest.mark.parametrize("n_outputs", [1, 2, 17])
def test_recorded_passes_add_the_same_gradients_to_those_that_are_there(activation: str, n_outputs: int) -> None:
    inputs, actions = seeded(ROWS, INPUTS), seeded(ROWS, ACTIONS)

    def loss(stack: StackedMLP) -> Tensor:
        found: Tensor = stack(inputs, actions).square().mean() + stack(inputs, -actions).amin(0).sum()
        return found

    found, expected = both_ways(loss, make(activation, n_outputs))
    assert len(found) == 6
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("n_outputs", [2, (3, 2)])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("with_loss", [False, True])
def test_a_gradient_by_the_outputs_is_as_good_as_a_loss(
    n_outputs: int | tuple[int, ...], activation: str, *, with_loss: bool
) -> None:
    stack = StackedMLP(MEMBERS, INPUTS + ACTIONS, (16,), n_outputs, activation)
    twin = copy.deepcopy(stack)
    flatten_parameters(stack)
    rows = seeded(ROWS, INPUTS + ACTIONS)
    with recorded_passes():
        outputs = stack(rows)
        gradient = seeded(*outputs.shape)
        values = (outputs, outputs.square().mean()) if with_loss else (outputs,)
        backward(values, (gradient, None)[: len(values)])
    expected = twin(rows)
    ((expected * gradient).sum() + (expected.square().mean() if with_loss else 0.0)).backward()
    assert outputs.shape == (MEMBERS, ROWS, *stack.output_shape)
    for one, same in zip(stack.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.grad, same.grad, atol=1e-5, rtol=1e-4)


def test_recorded_passes_reach_an_actor_through_those_who_judge_it() -> None:
    critics, actor = make(), StackedMLP(1, INPUTS, (8,), ACTIONS)
    inputs = seeded(ROWS, INPUTS)

    def loss(stack: StackedMLP) -> Tensor:
        return critics.judge(inputs, stack(inputs)[0].tanh()).amin(0).mean()

    found, expected = both_ways(loss, actor)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)
    assert all(parameter.grad is None for parameter in critics.parameters())


def test_a_recorded_pass_waits_for_the_loss_that_it_is_part_of() -> None:
    first, second = make(), make()
    twin = copy.deepcopy(first)
    flat, other = flatten_parameters(first), flatten_parameters(second)
    rows = seeded(ROWS, INPUTS + ACTIONS)
    with recorded_passes():
        waiting = first(rows)
        backward((second(rows).sum(),), (None,))
        assert not bool(flat.gradients.any())
        assert bool(other.gradients.any())
        backward((waiting.sum(),), (None,))
    twin(rows).sum().backward()
    for one, same in zip(first.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.grad, same.grad, atol=1e-5, rtol=1e-4)


def test_passes_do_not_write_into_each_other() -> None:
    stack, rows = make(), seeded(ROWS, INPUTS + ACTIONS)
    twin = copy.deepcopy(stack)
    flatten_parameters(stack)
    with torch.no_grad():
        said, expected = stack(rows), twin(rows)
        stack(rows + 1.0)
    torch.testing.assert_close(said, expected)
    with recorded_passes():
        first, second = stack(rows), stack(rows + 1.0)
        with torch.no_grad():
            stack(rows - 1.0)
        backward((first.square().sum() + second.square().sum(),), (None,))
    (twin(rows).square().sum() + twin(rows + 1.0).square().sum()).backward()
    for one, same in zip(stack.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.grad, same.grad, atol=1e-4, rtol=1e-4)


def test_what_is_recorded_in_one_thread_is_not_seen_in_another() -> None:
    stack = make()
    flatten_parameters(stack)
    rows = seeded(ROWS, INPUTS + ACTIONS)
    is_leaf = []
    with recorded_passes():
        assert stack(rows).is_leaf
        thread = threading.Thread(target=lambda: is_leaf.append(stack(rows).is_leaf))
        thread.start()
        thread.join()
    assert is_leaf == [False]
    assert not stack(rows).is_leaf


def test_the_gradient_that_comes_in_is_left_alone() -> None:
    stack = make(sizes=(8,))
    incoming = torch.ones(MEMBERS, ROWS, 2)
    stack(seeded(ROWS, INPUTS + ACTIONS)).backward(incoming)
    assert bool((incoming == 1.0).all())


def test_passes_wait_for_no_device() -> None:
    stack = make()
    flat = flatten_parameters(stack)
    with HostAccessRefused(torch.device("cpu")), recorded_passes():
        backward((stack(seeded(ROWS, INPUTS), seeded(ROWS, ACTIONS)).square().mean(),), (None,))
    assert bool(flat.gradients.any())


def test_weights_begin_as_those_of_linear_layers() -> None:
    torch.manual_seed(0)
    stack = StackedMLP(2, 50, (400,), 3)
    linear = nn.Linear(50, 400)
    for stacked, plain in (
        (stack.weights[0].detach(), linear.weight.detach()),
        (stack.biases[0].detach(), linear.bias.detach()),
    ):
        assert float(stacked.abs().max()) <= 1.0 / 50**0.5
        assert float(stacked.std()) == pytest.approx(float(plain.std()), rel=0.1)
    assert not torch.equal(stack.weights[0][0], stack.weights[0][1])


def test_orthogonal_weights_keep_lengths_and_make_small_outputs() -> None:
    torch.manual_seed(0)
    stack = StackedMLP.of_shape(2, 8, 4, NetworkShape(hidden_sizes=(16,), initial_weights="orthogonal"))
    first, last = stack.weights
    torch.testing.assert_close(first @ first.mT, torch.eye(8).expand(2, 8, 8), atol=1e-5, rtol=0)
    torch.testing.assert_close(last.mT @ last, 0.01 * torch.eye(4).expand(2, 4, 4), atol=1e-6, rtol=0)
    assert not any(bool(bias.any()) for bias in stack.biases)


def test_settings_are_checked() -> None:
    with pytest.raises(UnknownOptionError, match="relu"):
        StackedMLP(1, 2, (3,), 1, "reul")
    with pytest.raises(InvalidInputError, match="n_members"):
        StackedMLP(0, 2, (3,), 1)
    with pytest.raises(UnknownOptionError, match="orthogonal"):
        NetworkShape(initial_weights="ortogonal")
    with pytest.raises(UnknownOptionError, match="gelu"):
        NetworkShape(activation="glu")
    with pytest.raises(InvalidInputError, match="layer_norm"):
        NetworkShape(layer_norm=1)  # type: ignore[arg-type]  # what is tested
    with pytest.raises(InvalidInputError, match="hidden_sizes"):
        NetworkShape(hidden_sizes=(0,))
