"""A GRU layer over a block of sequences on a CPU, with its backward pass written out.

As in the LSTM, tanh(x) is computed as 1 - 2 s with s = sigmoid(-2 x), and the candidate's weights are multiplied by
-2 once. What the candidate takes from the inputs is not gated, so these weights stand on their own.

Source: Cho et al., Learning Phrase Representations using RNN Encoder-Decoder, 2014 (https://arxiv.org/abs/1406.1078),
with the reset gate behind the matrix product, and weights laid out, as in `torch.nn.GRU`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rl_framework.nn.recurrent_kernels import (
    clear_rows,
    join_weights,
    plain_gradients,
    row_blocks,
    starting_rows,
    suits_kernels,
    without,
)

through_sigmoid = torch.ops.aten.sigmoid_backward.grad_input
through_tanh = torch.ops.aten.tanh_backward.grad_input


def gru_step(features: Tensor, hidden: Tensor, *weights: Tensor) -> Tensor:
    """One step of a GRU layer by torch's own means: any device, any precision, differentiable again and again.

    Args:
        features: `[N, I]`
        hidden: Before the step. `[N, H]`
        weights: Of inputs and hidden units, and their biases. `[3 H, I]`, `[3 H, H]`, `[3 H]`, `[3 H]`

    Returns:
        Hidden units after the step. `[N, H]`
    """
    if torch.is_grad_enabled() or not suits_kernels(features, weights):
        return torch.gru_cell(features, hidden, *weights).to(hidden.dtype)
    after = torch.empty_like(hidden)
    for rows in row_blocks(len(features)):
        after[rows] = torch.gru_cell(features[rows], hidden[rows], *weights)
    return after


def gru_loop(starts: Tensor, inputs: Tensor, hidden: Tensor, *weights: Tensor) -> Tensor:
    """A GRU layer over a block of sequences, step by step.

    Args:
        starts: True where the hidden units are cleared before the step. `[L, N]`
        inputs: `[L, N, I]`
        hidden: Before the first step. `[N, H]`
        weights: As for `gru_step`.

    Returns:
        Hidden units after each step. `[L, N, H]`
    """
    outputs = []
    for begins, features in zip(starts, inputs, strict=True):
        hidden = gru_step(features, without(begins, hidden), *weights)
        outputs.append(hidden)
    return torch.stack(outputs)


def gru_sequence(starts: Tensor, inputs: Tensor, hidden: Tensor, *weights: Tensor) -> Tensor:
    """As `gru_loop` with gradients, faster; for what `suits_kernels`."""
    outputs: Tensor = _GRU.apply(starts, inputs, hidden, *weights)  # type: ignore[no-untyped-call]  # torch's
    return outputs


@dataclass(slots=True)
class _Trace:
    """What a forward pass leaves for the backward pass.

    Attributes:
        joined: Hidden units before each step, inputs and a 1. `[L, N, H + I + 1]`
        gates: Reset gate r, update gate z, and -2 times what the candidate takes from the hidden units. `[L, N, 3 H]`
        candidates: `[L, N, H]`
        weights: Those of the gates, joined and scaled. `[3 H, H + I + 1]`
        input_weights: What the candidate takes from the inputs and the constant, scaled. `[H, I + 1]`
        resets: Rows that are cleared before each step.
    """

    joined: Tensor
    gates: Tensor
    candidates: Tensor
    weights: Tensor
    input_weights: Tensor
    resets: list[Tensor | None]


class _GRU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, starts: Tensor, *arguments: Tensor) -> Any:
        ctx.trace, outputs = _run(starts, *arguments)
        ctx.save_for_backward(starts, *arguments)
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        starts, *arguments = ctx.saved_tensors
        trace, ctx.trace = ctx.trace, None
        needed = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():
            return None, *plain_gradients(gru_loop, starts, arguments, needed, gradients[0])
        return None, *_backward(trace or _run(starts, *arguments)[0], gradients[0], needed)


def _run(starts: Tensor, inputs: Tensor, hidden: Tensor, *weights: Tensor) -> tuple[_Trace, Tensor]:
    shape, n_hidden = inputs.shape[:2], hidden.shape[1]
    gate_weights, input_weights = _join(*weights)
    joined = inputs.new_empty(*shape, gate_weights.shape[1])
    joined[:, :, n_hidden:-1] = inputs
    joined[:, :, -1] = 1.0
    gates, outputs = inputs.new_empty(*shape, 3 * n_hidden), inputs.new_empty(*shape, n_hidden)
    candidates = torch.mm(joined[:, :, n_hidden:].flatten(0, 1), input_weights.t()).view_as(outputs)
    trace = _Trace(joined, gates, candidates, gate_weights, input_weights, starting_rows(starts))
    _forward(trace, hidden, outputs)
    return trace, outputs


def _join(inputs: Tensor, hidden: Tensor, input_bias: Tensor, hidden_bias: Tensor) -> tuple[Tensor, Tensor]:
    n_hidden = hidden.shape[1]
    joined = join_weights(inputs, hidden, input_bias + hidden_bias)
    joined[2 * n_hidden :, n_hidden:] = 0.0
    joined[2 * n_hidden :, -1] = hidden_bias[2 * n_hidden :]
    joined[2 * n_hidden :] *= -2.0
    alone = torch.cat([inputs[2 * n_hidden :], input_bias[2 * n_hidden :, None]], 1)
    return joined, alone.mul_(-2.0)


def _forward(trace: _Trace, hidden: Tensor, outputs: Tensor) -> None:
    """Run all steps; `outputs` receives the hidden units after each."""
    n_hidden, weights, one = hidden.shape[1], trace.weights.t(), hidden.new_ones(())
    for t, rows in enumerate(trace.resets):
        joined, gates, candidate = trace.joined[t], trace.gates[t], trace.candidates[t]
        before = joined[:, :n_hidden].copy_(hidden)
        clear_rows(before, rows)
        torch.mm(joined, weights, out=gates)
        gates[:, : 2 * n_hidden].sigmoid_()
        r, z, of_hidden = gates.chunk(3, 1)
        candidate.addcmul_(r, of_hidden).sigmoid_()
        torch.sub(one, candidate, alpha=2, out=candidate)
        hidden = torch.lerp(candidate, before, z, out=outputs[t])


def _backward(trace: _Trace, of_outputs: Tensor, needed: tuple[bool, ...]) -> list[Tensor | None]:
    """Gradients of inputs, hidden units and weights; the trace is used up.

    Within, the gradients of the reset gates are those of -2 times the gates.
    """
    n_hidden = of_outputs.shape[2]
    trace.weights[:n_hidden] *= -0.5
    trace.weights[2 * n_hidden :] *= -0.5
    hidden = _steps_back(trace, of_outputs, needs_first=needed[1])
    gates, candidates = trace.gates.flatten(0, 1), trace.candidates.flatten(0, 1)
    joined, inputs = trace.joined.flatten(0, 1), None
    if needed[0]:
        inputs = torch.mm(gates, trace.weights[:, n_hidden:-1])
        inputs.addmm_(candidates, trace.input_weights[:, :-1], alpha=-0.5)
        inputs = inputs.view(*of_outputs.shape[:2], -1)
    if not any(needed[2:]):
        return [inputs, hidden, None, None, None, None]
    weights = torch.mm(joined.t(), gates).t()
    weights[:n_hidden] *= -0.5
    alone = torch.mm(joined[:, n_hidden:].t(), candidates).t()
    of_inputs = torch.cat([weights[: 2 * n_hidden, n_hidden:], alone])
    return [inputs, hidden, of_inputs[:, :-1], weights[:, :n_hidden], of_inputs[:, -1], weights[:, -1]]


def _steps_back(trace: _Trace, of_outputs: Tensor, *, needs_first: bool) -> Tensor | None:
    """From the last step to the first; gates and candidates are replaced by their gradients."""
    of_hidden, buffer = torch.zeros_like(of_outputs[0]), torch.empty_like(of_outputs[0])
    weights = trace.weights[:, : of_outputs.shape[2]]
    for t in reversed(range(len(of_outputs))):
        of_hidden.add_(of_outputs[t])
        _step_back(trace, t, of_hidden, buffer)
        if t or needs_first:
            of_hidden.addmm_(trace.gates[t], weights)
            clear_rows(of_hidden, trace.resets[t])
    return of_hidden if needs_first else None


def _step_back(trace: _Trace, t: int, of_hidden: Tensor, buffer: Tensor) -> None:
    """One step: its gates and its candidate become their gradients.

    Args:
        trace: Of the forward pass.
        t: The step.
        of_hidden: Gradient of the hidden units after it; becomes the part that passes by the gates. `[N, H]`
        buffer: To work in. `[N, H]`
    """
    candidate, before = trace.candidates[t], trace.joined[t, :, : of_hidden.shape[1]]
    r, z, q = trace.gates[t].chunk(3, 1)
    of_update = torch.sub(before, candidate, out=buffer).mul_(of_hidden)
    kept = torch.mul(of_hidden, z)
    through_sigmoid(of_update, z, grad_input=z)
    through_tanh(of_hidden.sub_(kept), candidate, grad_input=candidate)
    torch.mul(candidate, q, out=buffer)
    torch.mul(candidate, r, out=q)
    through_sigmoid(buffer, r, grad_input=r)
    of_hidden.copy_(kept)
