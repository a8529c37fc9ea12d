"""Layers of linear maps and activations, with the gradient written out.

On the CPU the layers are one operation with a backward pass of its own: activations are computed in place, and their
derivative from their result. Two things make it about twice as fast as layer by layer with 64 units: tanh(x) is taken
as 2 sigmoid(2x) - 1, for which torch has a vectorised kernel (the difference is below 2e-7), and the gradient of a
layer with few inputs is multiplied in the order that suits its shape.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812  # torch's own convention

FEWEST_ROWS = 128
"""With fewer rows, calling the operations from Python costs more than it saves."""
FEW_NUMBERS = 4096
"""Of fewer numbers, torch's own tanh is found sooner than four operations are called."""


@dataclass(frozen=True, slots=True)
class Activation:
    """An activation whose derivative can be told from its result.

    Attributes:
        apply: Replaces numbers by their activations.
        backward: From the gradient by the results, and the results, makes the gradient by the numbers.
    """

    apply: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]


def _tanh_(numbers: Tensor) -> Tensor:
    if numbers.numel() < FEW_NUMBERS:
        return numbers.tanh_()
    return numbers.mul_(2.0).sigmoid_().mul_(2.0).sub_(1.0)


def _tanh_backward(gradient: Tensor, result: Tensor) -> Tensor:
    return torch.ops.aten.tanh_backward.grad_input(gradient, result, grad_input=gradient)  # type: ignore[no-any-return]


def _relu_backward(gradient: Tensor, result: Tensor) -> Tensor:
    return torch.ops.aten.threshold_backward.grad_input(  # type: ignore[no-any-return]
        gradient, result, 0.0, grad_input=gradient
    )


IN_PLACE: dict[type[nn.Module], Activation] = {
    nn.Tanh: Activation(_tanh_, _tanh_backward),
    nn.ReLU: Activation(torch.relu_, _relu_backward),
}


class MLP(nn.Sequential):
    """Linear layers of the given sizes, each followed by an activation.

    Args:
        n_inputs: Width of what comes in.
        sizes: Widths of the layers.
        activation: What follows each of them.
    """

    def __init__(self, n_inputs: int, sizes: Sequence[int], activation: type[nn.Module]) -> None:
        layers: list[nn.Module] = []
        for n_outputs in sizes:
            layers += [nn.Linear(n_inputs, n_outputs), activation()]
            n_inputs = n_outputs
        super().__init__(*layers)
        self._activation = IN_PLACE.get(activation)
        self._linear = [layer for layer in layers if isinstance(layer, nn.Linear)]

    def forward(self, features: Tensor) -> Tensor:
        """`[N, n_inputs]` to `[N, sizes[-1]]`."""
        return self._run(features, None)

    def into(self, last: nn.Linear, features: Tensor) -> Tensor:
        """The outputs of a further linear layer behind these. `[N, n_inputs]` to `[N, last.out_features]`"""
        return self._run(features, last)

    def _run(self, features: Tensor, last: nn.Linear | None) -> Tensor:
        is_direct = _SCOPE.is_direct and torch.is_grad_enabled() and not features.requires_grad
        if self._activation is None or not _may_be_fused(features, is_direct=is_direct):
            hidden: Tensor = super().forward(features)  # type: ignore[no-untyped-call]  # torch's
            return hidden if last is None else F.linear(hidden, last.weight, last.bias)
        linear = self._linear if last is None else [*self._linear, last]
        parameters = [tensor for layer in linear for tensor in (layer.weight, layer.bias)]
        if not torch.is_grad_enabled():
            return _forward(features, self._activation, len(self._linear), parameters)[-1]
        if is_direct and parameters and all(parameter.requires_grad for parameter in parameters):
            return _DirectMLP.apply(  # type: ignore[no-untyped-call,no-any-return]  # torch's
                parameters[-1], features, self._activation, len(self._linear), parameters
            )
        result: Tensor = _FusedMLP.apply(  # type: ignore[no-untyped-call]  # torch's
            features, self._activation, len(self._linear), *parameters
        )
        return result


class _Scope(threading.local):
    """Whether this thread is in a block of `direct_gradients`."""

    is_direct = False


_SCOPE = _Scope()


@contextmanager
def direct_gradients() -> Iterator[None]:
    """A block in which layers are set up to add their gradients to `.grad` themselves when `backward` is called.

    For whoever calls `loss.backward()` and wants nothing else: `torch.autograd.grad` and hooks do not see gradients
    of these layers' parameters. It saves automatic differentiation half of its work where batches are small.
    """
    before, _SCOPE.is_direct = _SCOPE.is_direct, True
    try:
        yield
    finally:
        _SCOPE.is_direct = before


def _may_be_fused(features: Tensor, *, is_direct: bool) -> bool:
    if torch.compiler.is_compiling():  # First, because whoever exports must not ask for the number of rows.
        return False
    return (
        features.device.type == "cpu"
        and features.dim() == 2
        and (is_direct or len(features) >= FEWEST_ROWS or not torch.is_grad_enabled())
        and not torch.is_autocast_enabled("cpu")
    )


def _forward(features: Tensor, activation: Activation, n_activated: int, parameters: Sequence[Tensor]) -> list[Tensor]:
    """What goes into each layer, and the outputs of the last."""
    results = [features]
    for index in range(len(parameters) // 2):
        output = F.linear(results[-1], parameters[2 * index], parameters[2 * index + 1])
        results.append(activation.apply(output) if index < n_activated else output)
    return results


class _FusedMLP(torch.autograd.Function):
    """The layers as one operation."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, activation: Activation, n_activated: int, *parameters: Tensor) -> Tensor:
        """Run the layers, and keep what goes into each."""
        results = _forward(features, activation, n_activated, parameters)
        ctx.activation, ctx.n_activated, ctx.n_results = activation, n_activated, len(results)
        ctx.save_for_backward(*results, *parameters[::2])
        return results[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Chain rule, layer by layer from the last."""
        saved = ctx.saved_tensors
        results, weights = saved[: ctx.n_results], saved[ctx.n_results :]
        found: list[Tensor | None] = []
        inputs_gradient: Tensor | None = gradient
        for of_outputs, inputs, weight in _backward(gradient, results, weights, ctx.activation, ctx.n_activated):
            found += [of_outputs.sum(0), _outer(of_outputs, inputs)]
            # Only the first layer's is wanted, and only where somebody learns from what the layers are given.
            is_first = inputs is results[0]
            inputs_gradient = of_outputs @ weight if is_first and ctx.needs_input_grad[0] else None
        return inputs_gradient, None, None, *reversed(found)


class _DirectMLP(torch.autograd.Function):
    """The layers as one operation whose gradients go to the parameters without a detour."""

    @staticmethod
    def forward(  # noqa: PLR0917  (torch hands them over by position)
        ctx: Any,
        anchor: Tensor,  # noqa: ARG004  (has it take part in the graph)
        features: Tensor,
        activation: Activation,
        n_activated: int,
        parameters: Sequence[Tensor],
    ) -> Tensor:
        """Run the layers, and keep what goes into each."""
        results = _forward(features, activation, n_activated, parameters)
        is_activated = n_activated == len(parameters) // 2
        ctx.results = [*results[:-1], results[-1].detach()] if is_activated else results[:-1]
        ctx.parameters, ctx.activation, ctx.n_activated = parameters, activation, n_activated
        return results[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, ...]:
        """Chain rule, layer by layer from the last."""
        biases, weights = ctx.parameters[1::2], ctx.parameters[::2]
        layers = _backward(gradient, ctx.results, weights, ctx.activation, ctx.n_activated)
        for bias, (of_outputs, inputs, weight) in zip(reversed(biases), layers, strict=True):
            _accumulate(bias, of_outputs.sum(0))
            _accumulate(weight, _outer(of_outputs, inputs))
        return None, None, None, None, None


def _backward(
    gradient: Tensor, results: Sequence[Tensor], weights: Sequence[Tensor], activation: Activation, n_activated: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """From the last layer to the first: gradient by what it gave before activation, what went in, and its weights."""
    for index in reversed(range(len(weights))):
        if index < n_activated:
            is_foreign = index == len(weights) - 1
            gradient = activation.backward(gradient.clone() if is_foreign else gradient, results[index + 1])
        yield gradient, results[index], weights[index]
        if index:
            gradient = gradient @ weights[index]


def _accumulate(parameter: Tensor, gradient: Tensor) -> None:
    if parameter.grad is None:
        parameter.grad = gradient.contiguous()
    else:
        parameter.grad.add_(gradient)


def _outer(gradient: Tensor, inputs: Tensor) -> Tensor:
    """Sum over rows of the outer products. `[N, n_outputs]` and `[N, n_inputs]` to `[n_outputs, n_inputs]`"""
    if inputs.shape[1] < gradient.shape[1]:
        return (inputs.t() @ gradient).t()
    return gradient.t() @ inputs
