"""Layers of a stack of networks as one operation, with the gradient written out.

Activations are computed in place and their derivative from their result. Where only what goes in is learned from, as
in the step of an actor that critics judge, no gradient of a parameter is computed, and of what goes in only that of
the columns which are wanted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rl_framework.nn.mlp import Activation
from rl_framework.nn.recorded_passes import is_recording, record
from rl_framework.nn.scratch import SCRATCH

FEW_OUTPUTS = 16
"""With fewer, products are fastest in the order in which rows come last."""
FEWEST_BORROWED = 2**15
"""From so many numbers on, memory that is new costs more than to look for some that is not."""


@dataclass(slots=True)
class _StackPass:
    """A `RecordedPass` through a stack.

    Attributes:
        activation: What followed all layers but the last.
        inputs: What went into each layer.
        outputs: What came out of the last, alone. `[E, N, *outputs]`
        weights: Of each layer.
        gradients: Where those of the parameters are added up, in their order.
    """

    activation: Activation
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    weights: Sequence[Tensor]
    gradients: Sequence[Tensor]

    def add_gradients(self, of_outputs: Tensor) -> None:
        """Add those of the parameters. `[E, N, *outputs]`"""
        index = len(self.weights)
        flat = of_outputs if of_outputs.dim() == 3 else of_outputs.flatten(2)
        for rows, gradient in _backward(flat, self.inputs, self.weights, self.activation):
            index -= 1
            of_weight, of_bias = self.gradients[index], self.gradients[len(self.weights) + index]
            of_bias.add_(gradient.sum(1, keepdim=True))
            if gradient.shape[2] < FEW_OUTPUTS:
                of_weight.mT.add_(torch.bmm(gradient.mT, rows))
            else:
                of_weight.baddbmm_(rows.mT, gradient)
        if len(self.weights) > 1:
            _give_back(gradient, *self.inputs[1:])


def run_stack(
    inputs: Tensor,
    actions: Tensor | None,
    activation: Activation,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    *,
    output_shape: tuple[int, ...],
) -> Tensor:
    """The outputs of a stack, with gradients by those of the arguments that want them, which can be taken once.

    Args:
        inputs: `[N, F]` or `[E, N, F]`
        actions: Further columns. `[N, A]` or `[E, N, A]`
        activation: What follows all layers but the last.
        weights: Of each layer. `[E, n_inputs, n_outputs]`
        biases: Of each layer. `[E, 1, n_outputs]`
        output_shape: Of what goes out of a row.

    Returns:
        `[E, N, *output_shape]`
    """
    if torch.is_grad_enabled():
        gradients = _recordable(inputs, actions, (*weights, *biases)) if is_recording() else None
        if gradients is None:
            found: Tensor = _Stack.apply(  # type: ignore[no-untyped-call]  # torch's
                inputs, actions, activation, *weights, *biases
            )
            return _shaped(found, output_shape)
        with torch.no_grad():
            rows = _rows(inputs, actions, len(weights[0]))
            results = _forward(rows, activation, weights, biases, borrows=True)
            outputs = _shaped(results.pop(), output_shape)
        record(_StackPass(activation, results, (outputs,), weights, gradients))
        return outputs
    return _shaped(_outputs(_rows(inputs, actions, len(weights[0])), activation, weights, biases), output_shape)


def _shaped(outputs: Tensor, shape: tuple[int, ...]) -> Tensor:
    """`[E, N, n_outputs]` to `[E, N, *shape]`"""
    return outputs if len(shape) == 1 else outputs.view(*outputs.shape[:2], *shape)


def _recordable(inputs: Tensor, actions: Tensor | None, parameters: Sequence[Tensor]) -> list[Tensor] | None:
    """Where gradients of parameters are added up, if all have such a place, and if nothing else wants gradients."""
    if inputs.requires_grad or (actions is not None and actions.requires_grad):
        return None
    gradients = [parameter.grad for parameter in parameters if parameter.requires_grad and parameter.grad is not None]
    return gradients if len(gradients) == len(parameters) else None


def _rows(inputs: Tensor, actions: Tensor | None, n_members: int) -> Tensor:
    """What goes into the first layer. `[E, N, F + A]`"""
    rows = inputs if actions is None else torch.cat([inputs, actions], -1)
    return rows if rows.dim() == 3 else rows.expand(n_members, -1, -1)


def _forward(
    rows: Tensor,
    activation: Activation,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    *,
    borrows: bool = False,
) -> list[Tensor]:
    """What goes into each layer, and the outputs of the last.

    Args:
        rows: What goes into the first.
        activation: What follows all layers but the last.
        weights: Of each layer.
        biases: Of each layer.
        borrows: Whether what goes from layer to layer lies in memory that has to be given back.
    """
    results = [rows]
    last = len(weights) - 1
    for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        rows = results[-1]
        out = _place(rows, weight.shape[2]) if borrows and index < last else None
        if out is None and weight.shape[2] < FEW_OUTPUTS:
            output = torch.baddbmm(bias.mT, weight.mT, rows.mT).mT
        else:
            output = torch.baddbmm(bias, rows, weight, out=out)
        results.append(activation.apply(output) if index < last else output)
    return results


def _outputs(rows: Tensor, activation: Activation, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    """The outputs of the last layer, for whoever needs nothing of the others."""
    results = _forward(rows, activation, weights, biases, borrows=True)
    _give_back(*results[1:-1])
    return results[-1]


def _place(rows: Tensor, width: int) -> Tensor | None:
    """Memory for as many rows of a width, to be given back; None where new memory is as good. `[E, N, width]`"""
    if not rows.is_cpu or rows.shape[0] * rows.shape[1] * width < FEWEST_BORROWED:
        return None
    return SCRATCH.borrow(rows.shape[0], rows.shape[1], width, dtype=rows.dtype)


def _give_back(*tensors: Tensor) -> None:
    """Give back those that lie in such memory, which nobody reads any more."""
    SCRATCH.give_back(tensor for tensor in tensors if tensor.is_cpu and tensor.numel() >= FEWEST_BORROWED)


def _backward(
    gradient: Tensor, inputs: Sequence[Tensor], weights: Sequence[Tensor], activation: Activation
) -> Iterator[tuple[Tensor, Tensor]]:
    """From the last layer to the first: what went in, and the gradient by what came out. `[E, N, ...]` both

    Of several layers, the last gradient that comes has to be given back.
    """
    last = len(weights) - 1
    for index in reversed(range(len(weights))):
        yield inputs[index], gradient
        if index:
            behind, gradient = gradient, activation.backward(_by_inputs(gradient, weights[index]), inputs[index])
            if index < last:
                _give_back(behind)


class _Stack(torch.autograd.Function):
    """The layers as one operation."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, actions: Tensor | None, activation: Activation, *parameters: Tensor
    ) -> Tensor:
        """Run the layers, and keep what goes into each."""
        n_layers = len(parameters) // 2
        rows = _rows(inputs, actions, len(parameters[0]))
        results = _forward(rows, activation, parameters[:n_layers], parameters[n_layers:])
        ctx.activation, ctx.n_layers = activation, n_layers
        ctx.is_shared = inputs.dim() == 2, actions is not None and actions.dim() == 2
        ctx.n_actions = 0 if actions is None else actions.shape[-1]
        ctx.save_for_backward(*results[:-1], *parameters[:n_layers])
        return results[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Chain rule, layer by layer from the last."""
        n, wants = ctx.n_layers, ctx.needs_input_grad[3:]
        inputs, weights = ctx.saved_tensors[:n], ctx.saved_tensors[n:]
        found: list[Tensor | None] = [None] * (2 * n)
        index, gradient = n, of_outputs
        for rows, gradient in _backward(of_outputs, inputs, weights, ctx.activation):
            index -= 1
            found[index] = _outer(rows, gradient) if wants[index] else None
            found[n + index] = gradient.sum(1, keepdim=True) if wants[n + index] else None
        by_columns = _by_columns(ctx, gradient, weights[0])
        if n > 1:
            _give_back(gradient)
        return *by_columns, None, *found


def _by_columns(ctx: Any, gradient: Tensor, weight: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Gradients by the inputs and by the actions, where they are wanted."""
    wants_inputs, wants_actions = ctx.needs_input_grad[:2]
    n_inputs = weight.shape[1] - ctx.n_actions
    inputs = _by_inputs(gradient, weight[:, :n_inputs]) if wants_inputs else None
    actions = _by_inputs(gradient, weight[:, n_inputs:]) if wants_actions else None
    if inputs is not None and ctx.is_shared[0]:
        inputs = inputs.sum(0)
    if actions is not None and ctx.is_shared[1]:
        actions = actions.sum(0)
    return inputs, actions


def _by_inputs(gradient: Tensor, weight: Tensor) -> Tensor:
    """`[E, N, n_outputs]`, `[E, F, n_outputs]`, to `[E, N, F]`: in memory of its own, which may be given back."""
    out = _place(gradient, weight.shape[1])
    if weight.shape[2] == 1:
        return torch.mul(gradient, weight.mT, out=out)
    return torch.bmm(gradient, weight.mT, out=out)


def _outer(rows: Tensor, gradient: Tensor) -> Tensor:
    """Sum over rows of the outer products. `[E, N, F]`, `[E, N, n_outputs]`, to `[E, F, n_outputs]`"""
    if gradient.shape[2] < FEW_OUTPUTS:
        return torch.bmm(gradient.mT, rows).mT
    return torch.bmm(rows.mT, gradient)
