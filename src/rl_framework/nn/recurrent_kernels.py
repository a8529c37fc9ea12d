"""What the fast LSTM and the fast GRU share: one matrix for everything that a step multiplies, and resets.

The hidden units before a step, its inputs and a constant 1 stand side by side in one row, so that one matrix product
per step applies both weight matrices and the biases, and one product over all steps gives all their gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from rl_framework.nn.memory_cores import rowwise

STEP_ROWS = 512


def suits_kernels(features: Tensor, weights: Sequence[Tensor]) -> bool:
    """Whether the fast passes do the same as torch's own: full precision on a CPU, and nobody traces the calls."""
    if features.device.type != "cpu" or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
        return False
    return features.dtype in {torch.float32, torch.float64} and all(part.dtype == features.dtype for part in weights)


def join_weights(inputs: Tensor, hidden: Tensor, bias: Tensor) -> Tensor:
    """Weights of hidden units, inputs and the constant. `[G, I]`, `[G, H]`, `[G]` to `[G, H + I + 1]`"""
    n_hidden, n_inputs = hidden.shape[1], inputs.shape[1]
    joined = hidden.new_empty(len(hidden), n_hidden + n_inputs + 1)
    joined[:, :n_hidden] = hidden
    joined[:, n_hidden:-1] = inputs
    joined[:, -1] = bias
    return joined


def row_blocks(n_rows: int) -> Iterator[slice]:
    """Rows in blocks whose gates fit a cache."""
    for first in range(0, n_rows, STEP_ROWS):
        yield slice(first, first + STEP_ROWS)


def starting_rows(starts: Tensor) -> list[Tensor | None]:
    """Per step the rows in which an episode begins, None where there are none. `[L, N]`"""
    if not starts.any():
        return [None] * len(starts)
    rows = [begins.nonzero().squeeze(1) for begins in starts]
    return [found if len(found) else None for found in rows]


def clear_rows(values: Tensor, rows: Tensor | None) -> None:
    """Set rows to zero, in place. `[N, ...]`"""
    if rows is not None:
        values.index_fill_(0, rows, 0.0)


def without(starts: Tensor, values: Tensor) -> Tensor:
    """Values with zeros in rows where an episode begins, differentiable. `[N]`, `[N, ...]`"""
    return values.masked_fill(rowwise(starts, values), 0.0)


def plain_gradients(
    loop: Callable[..., Tensor | tuple[Tensor, ...]],
    starts: Tensor,
    arguments: Sequence[Tensor],
    needed: Sequence[bool],
    gradients: Tensor | tuple[Tensor, ...],
) -> list[Tensor | None]:
    """Gradients by torch's own means, which can be differentiated again.

    Args:
        loop: Does what the kernel does with torch's differentiable operations.
        starts: Its first argument.
        arguments: Its other arguments.
        needed: Which of them need a gradient.
        gradients: Those of its results.
    """
    with torch.enable_grad():
        aliases = [argument.view_as(argument) for argument in arguments]
        wanted = [alias for alias, is_needed in zip(aliases, needed, strict=True) if is_needed]
        found = iter(torch.autograd.grad(loop(starts, *aliases), wanted, gradients, create_graph=True))
    return [next(found) if is_needed else None for is_needed in needed]
