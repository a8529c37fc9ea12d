"""Passes through networks that are written down by hand, so that automatic differentiation need not know of them.

Networks whose layers are one operation know their gradient: within `recorded_passes` they keep what it takes, and what
they say is a beginning as far as automatic differentiation can see. `backward` differentiates what was made of it, and
has the networks do the rest. For small networks that saves most of the time of a gradient.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor


class RecordedPass(Protocol):
    """A pass through a network whose gradients are still to come.

    Attributes:
        outputs: What came of it, a leaf of its own.
    """

    outputs: Tensor

    def add_gradients(self, of_outputs: Tensor) -> None:
        """Add to those of the parameters, given the gradient by the outputs."""
        ...


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


def record(recorded: RecordedPass) -> Tensor:
    """Keep a pass until `backward`; gives its outputs, as the beginning of what is made of them."""
    _SCOPE.passes.append(recorded)
    return recorded.outputs.requires_grad_()


def backward(values: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    """Add gradients to those of the parameters, also of networks whose passes were recorded.

    Automatic differentiation has nothing to do with values that are the very outputs of such a network.

    Args:
        values: Losses, `[]`, or numbers of which the gradient is known. Those that nothing is learned from are passed
            over.
        gradients: For each the gradient of what is minimised by it, in its shape; None for a loss.
    """
    passes, _SCOPE.passes = _SCOPE.passes, []
    roots: list[tuple[Tensor, Tensor | None]] = []
    outputs: list[tuple[Tensor, Tensor]] = []
    for value, gradient in zip(values, gradients, strict=True):
        if gradient is not None and any(one.outputs is value for one in passes):
            outputs.append((value, gradient))
        elif value.requires_grad:
            roots.append((value, gradient))
    if roots:
        torch.autograd.backward([value for value, _ in roots], [gradient for _, gradient in roots])
    for value, gradient in outputs:
        value.grad = gradient if value.grad is None else value.grad + gradient
    for one in passes:
        of_outputs = one.outputs.grad
        if of_outputs is None:
            _SCOPE.passes.append(one)
            continue
        with torch.no_grad():
            one.add_gradients(of_outputs)
