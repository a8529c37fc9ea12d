"""Passes through networks that are written down by hand, so that automatic differentiation need not know of them.

Networks whose layers are one operation know their gradient: within `recorded_passes` they keep what it takes, and what
they say is a beginning as far as automatic differentiation can see. So does what is made of that by one operation with
a known gradient. `backward` differentiates the rest and has them go on from there. For small networks that saves most
of the time of a gradient.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

RESHAPES = {"ViewBackward0", "SqueezeBackward0", "SqueezeBackward1", "UnsqueezeBackward0", "ReshapeAliasBackward0"}
"""What automatic differentiation calls operations that leave all numbers where they are."""


class RecordedPass(Protocol):
    """Something computed whose gradients are still to come.

    Attributes:
        outputs: What came of it, each a leaf of its own.
    """

    outputs: Sequence[Tensor]

    @property
    def add_gradients(self) -> Callable[..., None]:
        """Adds to gradients of parameters, or of what an earlier pass gave.

        It takes the gradient by each of the outputs; where there are several, some of them may be None.
        """
        ...


@dataclass(slots=True)
class RecordedFunction:
    """A `RecordedPass` from leaves to what one operation with a known gradient made of them.

    Attributes:
        leaves: Outputs of earlier passes, or parameters.
        gradients: Gives those by the leaves from those by the outputs, any of which may be None.
        outputs: What came of it.
    """

    leaves: Sequence[Tensor]
    gradients: Callable[..., Sequence[Tensor]]
    outputs: Sequence[Tensor]

    def add_gradients(self, *by_outputs: Tensor | None) -> None:
        """Add to those of the leaves that learn."""
        for leaf, gradient in zip(self.leaves, self.gradients(*by_outputs), strict=True):
            if leaf.requires_grad:
                add_to(leaf, gradient)


class _Scope(threading.local):
    """Whether a thread records passes, and those whose gradients are still to come."""

    def __init__(self) -> None:
        self.is_recording = False
        self.passes: list[RecordedPass] = []


_SCOPE = _Scope()


@contextmanager
def recorded_passes() -> Iterator[None]:
    """A block in which networks record what they compute, and `backward` has their gradients computed.

    Only `backward` of this module sees gradients of such networks' parameters here: `Tensor.backward` and
    `torch.autograd.grad` end at their outputs. Networks whose inputs are learned from do as outside.
    """
    before, _SCOPE.is_recording = _SCOPE.is_recording, True
    try:
        yield
    finally:
        _SCOPE.is_recording = before
        if not before:
            _SCOPE.passes.clear()


def is_recording() -> bool:
    """Whether this thread is in a block of `recorded_passes`, and records gradients at all."""
    return _SCOPE.is_recording and torch.is_grad_enabled()


def is_recorded(values: Tensor) -> bool:
    """Whether these are the very outputs of a pass that was recorded in this thread, and it goes on recording."""
    return is_recording() and any(output is values for one in _SCOPE.passes for output in one.outputs)


def record(recorded: RecordedPass) -> None:
    """Keep a pass until `backward`; its outputs are the beginning of what is made of them."""
    for output in recorded.outputs:
        output.requires_grad_()
    _SCOPE.passes.append(recorded)


def backward(values: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    """Add gradients to those of the parameters, also of networks whose passes were recorded.

    Automatic differentiation has nothing to do with values that are the very outputs of a pass, in whatever shape.

    Args:
        values: Losses, `[]`, or numbers of which the gradient is known. Those that nothing is learned from are passed
            over.
        gradients: For each the gradient of what is minimised by it, in its shape; None for a loss.
    """
    passes, _SCOPE.passes = _SCOPE.passes, []
    roots: list[tuple[Tensor, Tensor | None]] = []
    known: list[tuple[Tensor, Tensor]] = []
    for value, gradient in zip(values, gradients, strict=True):
        output = None if gradient is None else _output(value, passes)
        if gradient is not None and output is not None:
            known.append((output, gradient.reshape(output.shape)))
        elif value.requires_grad:
            roots.append((value, gradient))
    if roots:
        torch.autograd.backward([value for value, _ in roots], [gradient for _, gradient in roots])
    for output, gradient in known:
        add_to(output, gradient)
    with torch.no_grad():
        _SCOPE.passes = [one for one in reversed(passes) if not _goes_back(one)][::-1]


def add_to(leaf: Tensor, gradient: Tensor) -> None:
    """Add a gradient, which is not written into, to that of a leaf; a parameter's is added to where it lies."""
    if leaf.grad is None:
        leaf.grad = gradient
    elif isinstance(leaf, nn.Parameter):
        leaf.grad.add_(gradient)
    else:
        leaf.grad = leaf.grad + gradient


def _goes_back(one: RecordedPass) -> bool:
    """Whether there was a gradient to go on with."""
    found = [output.grad for output in one.outputs]
    if all(gradient is None for gradient in found):
        return False
    one.add_gradients(*found)
    return True


def _output(value: Tensor, passes: Sequence[RecordedPass]) -> Tensor | None:
    """The output of a pass that these are, number by number."""
    step: Any = value.grad_fn
    while step is not None and step.name() in RESHAPES:
        step = step.next_functions[0][0]
    leaf = value if value.grad_fn is None else getattr(step, "variable", None)
    return leaf if any(output is leaf for one in passes for output in one.outputs) else None
