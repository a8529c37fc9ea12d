"""An LSTM layer over a block of sequences on a CPU, with its backward pass written out.

Logistic functions cost a sixth of hyperbolic tangents here, so tanh(x) is computed as 1 - 2 s with s = sigmoid(-2 x):
the rows of the candidate's weights are multiplied by -2 once, after which one logistic function runs over all four
gates, and -2 c is carried along instead of the cell c. All these factors are powers of two and round nothing.

Source: Hochreiter and Schmidhuber, Long Short-Term Memory, 1997 (https://doi.org/10.1162/neco.1997.9.8.1735), with
the forget gate of Gers et al., 2000. Weights are laid out as in `torch.nn.LSTM`.
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

FEWEST_ROWS = 32
INPUT, FORGET, CANDIDATE, OUTPUT = range(4)
FORWARD_SCALES = {CANDIDATE: -2.0}
GRADIENT_SCALES = {INPUT: -2.0, CANDIDATE: 4.0}

through_sigmoid = torch.ops.aten.sigmoid_backward.grad_input


def lstm_step(features: Tensor, hidden: Tensor, cell: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
    """One step of an LSTM layer by torch's own means: any device, any precision, differentiable again and again.

    Args:
        features: `[N, I]`
        hidden: Before the step. `[N, H]`
        cell: Likewise. `[N, H]`
        weights: Of inputs and hidden units, and their biases. `[4 H, I]`, `[4 H, H]`, `[4 H]`, `[4 H]`

    Returns:
        Hidden units and cell after the step. `[N, H]` each
    """
    if torch.is_grad_enabled() or not suits_kernels(features, weights) or len(features) < FEWEST_ROWS:
        after = torch.lstm_cell(features, (hidden, cell), *weights)
        return after[0].to(hidden.dtype), after[1].to(cell.dtype)
    hidden_after, cell_after = torch.empty_like(hidden), torch.empty_like(cell)
    for rows in row_blocks(len(features)):
        before = (hidden[None, rows], cell[None, rows])
        result = torch.lstm(features[None, rows], before, weights, True, 1, 0.0, False, False, False)
        hidden_after[rows], cell_after[rows] = result[1][0], result[2][0]
    return hidden_after, cell_after


def lstm_loop(starts: Tensor, inputs: Tensor, hidden: Tensor, cell: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
    """An LSTM layer over a block of sequences, step by step.

    Args:
        starts: True where hidden units and cell are cleared before the step. `[L, N]`
        inputs: `[L, N, I]`
        hidden: Before the first step. `[N, H]`
        cell: Likewise. `[N, H]`
        weights: As for `lstm_step`.

    Returns:
        Hidden units after each step, `[L, N, H]`, and the cell after the last, `[N, H]`.
    """
    outputs = []
    for begins, features in zip(starts, inputs, strict=True):
        hidden, cell = lstm_step(features, without(begins, hidden), without(begins, cell), *weights)
        outputs.append(hidden)
    return torch.stack(outputs), cell


def lstm_sequence(
    starts: Tensor, inputs: Tensor, hidden: Tensor, cell: Tensor, *weights: Tensor
) -> tuple[Tensor, Tensor]:
    """As `lstm_loop` with gradients, faster; for what `suits_kernels`."""
    outputs, last = _LSTM.apply(starts, inputs, hidden, cell, *weights)  # type: ignore[no-untyped-call]  # torch's
    return outputs, last


@dataclass(slots=True)
class _Trace:
    """What a forward pass leaves for the backward pass.

    Attributes:
        joined: Hidden units before each step, inputs and a 1. `[L, N, H + I + 1]`
        gates: Input gate, forget gate, s of the candidate, output gate. `[L, N, 4 H]`
        cells: -2 c before each step and after the last. `[L + 1, N, H]`
        squashed: s of the cell after each step. `[L, N, H]`
        weights: Joined and scaled. `[4 H, H + I + 1]`
        resets: Rows that are cleared before each step.
    """

    joined: Tensor
    gates: Tensor
    cells: Tensor
    squashed: Tensor
    weights: Tensor
    resets: list[Tensor | None]

    @classmethod
    def empty(cls, inputs: Tensor, weights: Tensor, starts: Tensor) -> _Trace:
        """Memory for the passes."""
        (n_steps, n_rows, _), n_hidden = inputs.shape, len(weights) // 4
        joined = inputs.new_empty(n_steps, n_rows, weights.shape[1])
        gates = inputs.new_empty(n_steps, n_rows, 4 * n_hidden)
        cells = inputs.new_empty(n_steps + 1, n_rows, n_hidden)
        squashed = inputs.new_empty(n_steps, n_rows, n_hidden)
        return cls(joined, gates, cells, squashed, weights, starting_rows(starts))


class _LSTM(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, starts: Tensor, *arguments: Tensor) -> Any:
        ctx.trace, outputs, last = _run(starts, *arguments)
        ctx.save_for_backward(starts, *arguments, outputs)
        return outputs, last

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        starts, *arguments, outputs = ctx.saved_tensors
        trace, ctx.trace = ctx.trace, None
        needed = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():
            return None, *plain_gradients(lstm_loop, starts, arguments, needed, gradients)
        return None, *_backward(trace or _run(starts, *arguments)[0], outputs, gradients, needed)


def _run(
    starts: Tensor, inputs: Tensor, hidden: Tensor, cell: Tensor, *weights: Tensor
) -> tuple[_Trace, Tensor, Tensor]:
    trace = _Trace.empty(inputs, _join(weights), starts)
    outputs = inputs.new_empty(*starts.shape, hidden.shape[1])
    _forward(trace, inputs, hidden, cell, outputs)
    return trace, outputs, trace.cells[-1] * -0.5


def _join(weights: tuple[Tensor, ...]) -> Tensor:
    of_inputs, of_hidden, *biases = weights
    joined = join_weights(of_inputs, of_hidden, biases[0] + biases[1])
    _scale(joined, FORWARD_SCALES)
    return joined


def _scale(rows: Tensor, scales: dict[int, float]) -> None:
    gates = rows.chunk(4)
    for gate, scale in scales.items():
        gates[gate].mul_(scale)


def _forward(trace: _Trace, inputs: Tensor, hidden: Tensor, cell: Tensor, outputs: Tensor) -> None:
    """Run all steps; `outputs` receives the hidden units after each."""
    n_hidden, weights = hidden.shape[1], trace.weights.t()
    torch.mul(cell, -2.0, out=trace.cells[0])
    for t, rows in enumerate(trace.resets):
        joined, gates, old, new = trace.joined[t], trace.gates[t], trace.cells[t], trace.cells[t + 1]
        joined[:, :n_hidden] = hidden
        joined[:, n_hidden:-1] = inputs[t]
        joined[:, -1] = 1.0
        clear_rows(joined[:, :n_hidden], rows)
        clear_rows(old, rows)
        torch.mm(joined, weights, out=gates).sigmoid_()
        i, f, s, o = gates.chunk(4, 1)
        torch.mul(f, old, out=new).addcmul_(i, s, value=4.0).sub_(i, alpha=2.0)
        squashed = torch.sigmoid(new, out=trace.squashed[t])
        hidden = torch.addcmul(o, o, squashed, value=-2.0, out=outputs[t])


def _backward(
    trace: _Trace, outputs: Tensor, gradients: tuple[Tensor, ...], needed: tuple[bool, ...]
) -> list[Tensor | None]:
    """Gradients of inputs, hidden units, cell and weights; the trace is used up.

    Within, the gradients of the gates are left unscaled by `GRADIENT_SCALES`, and the joined weights are scaled
    instead.
    """
    _scale(trace.weights, GRADIENT_SCALES)
    n_hidden, n_inputs = outputs.shape[2], trace.joined.shape[2] - outputs.shape[2] - 1
    hidden, cell = _steps_back(trace, outputs, gradients, needs_first=needed[1])
    gates, joined = trace.gates.flatten(0, 1), trace.joined.flatten(0, 1)
    inputs = torch.mm(gates, trace.weights[:, n_hidden:-1]).view(*outputs.shape[:2], -1) if needed[0] else None
    if not any(needed[3:]):
        return [inputs, hidden, cell, None, None, None, None]
    weights = torch.mm(joined.t(), gates).t()
    _scale(weights, GRADIENT_SCALES)
    _scale(weights, FORWARD_SCALES)
    bias = weights[:, -1]
    return [inputs, hidden, cell, weights[:, n_hidden : n_hidden + n_inputs], weights[:, :n_hidden], bias, bias]


def _steps_back(
    trace: _Trace, outputs: Tensor, gradients: tuple[Tensor, ...], *, needs_first: bool
) -> tuple[Tensor | None, Tensor]:
    """From the last step to the first; the gates are replaced by their gradients."""
    of_hidden, buffer = None, torch.empty_like(outputs[0])
    of_cell = torch.mul(gradients[1], -0.5)
    weights = trace.weights[:, : outputs.shape[2]]
    recurrent = torch.empty_like(buffer)
    for t in reversed(range(len(outputs))):
        of_output = gradients[0][t] if of_hidden is None else of_hidden.add_(gradients[0][t])
        _step_back(trace, t, outputs[t], of_output=of_output, of_cell=of_cell, buffer=buffer)
        clear_rows(of_cell, trace.resets[t])
        if t or needs_first:
            of_hidden = torch.mm(trace.gates[t], weights, out=recurrent)
            clear_rows(of_hidden, trace.resets[t])
    return of_hidden if needs_first else None, of_cell.mul_(-2.0)


def _step_back(trace: _Trace, t: int, output: Tensor, *, of_output: Tensor, of_cell: Tensor, buffer: Tensor) -> None:
    """One step: its gates become their gradients, that of the cell becomes that of the cell before the step.

    Args:
        trace: Of the forward pass.
        t: The step.
        output: Hidden units after it. `[N, H]`
        of_output: Their gradient. `[N, H]`
        of_cell: That of -2 c after the step, without what reaches it through the output. `[N, H]`
        buffer: To work in. `[N, H]`
    """
    i, f, s, o = trace.gates[t].chunk(4, 1)
    torch.mul(of_output, o, out=buffer)
    through_sigmoid(buffer, trace.squashed[t], grad_input=buffer)
    of_cell.sub_(buffer, alpha=2.0)
    torch.mul(of_output, output, out=buffer)
    torch.addcmul(buffer, buffer, o, value=-1.0, out=o)
    torch.mul(of_cell, i, out=buffer)
    candidate = torch.addcmul(buffer, buffer, s, value=-2.0)
    through_sigmoid(buffer, s, grad_input=s)
    torch.addcmul(candidate, candidate, i, value=-1.0, out=i)
    of_cell.mul_(f)
    torch.mul(of_cell, trace.cells[t], out=buffer)
    torch.addcmul(buffer, buffer, f, value=-1.0, out=f)
