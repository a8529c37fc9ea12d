"""Parameters that lie in one piece of memory, and their gradients in another.

What is done to all of them is then one operation: a step of an optimiser, cutting, averaging with a target network.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from rl_framework.errors import InvalidInputError

LINE = 16
"""Parameters begin at multiples of so many numbers, 64 bytes; the numbers between them are 0, and stay so."""


class FlatParameters:
    """Moves parameters into one buffer, and their gradients into another, of which they become views.

    Gradients are always there: forget them with `forget`, not by setting `.grad` to None. Parameters that lie in one
    buffer already, in this order, stay where they are. Networks are moved to their device before.

    Args:
        parameters: float32, on one device.

    Attributes:
        parameters: They.
        values: Their buffer. `[n]`
        gradients: That of their gradients. `[n]`

    Raises:
        InvalidInputError: There are none, or they are of several devices or other number types.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.parameters = tuple(parameters)
        self.values = flat_values(self.parameters)
        self.gradients = self._flat_gradients()
        self._addresses = (self.values.data_ptr(), self.gradients.data_ptr())

    def forget(self) -> None:
        """Set all gradients to 0."""
        self.gradients.zero_()

    def check(self) -> None:
        """Refuse to go on if parameters or gradients have left their buffers.

        Raises:
            InvalidInputError: They have.
        """
        first = self.parameters[0]
        gradient = first.grad
        if gradient is None or (first.data_ptr(), gradient.data_ptr()) != self._addresses:
            raise InvalidInputError(
                "Parameters or their gradients are no longer where they were put: move networks to their device "
                "before making them flat, and forget gradients with `forget` rather than `zero_grad`."
            )

    def _flat_gradients(self) -> Tensor:
        given = [parameter.grad for parameter in self.parameters]
        found = _in_place([gradient for gradient in given if gradient is not None], n=len(self.values))
        if found is not None and None not in given:
            return found
        buffer = torch.zeros_like(self.values)
        for view, parameter in zip(_views(buffer, self.parameters), self.parameters, strict=True):
            if parameter.grad is not None:
                view.copy_(parameter.grad)
            parameter.grad = view
        return buffer


def flatten_parameters(module: nn.Module) -> FlatParameters:
    """All parameters of a module in one buffer."""
    return FlatParameters(module.parameters())


def flat_values(parameters: Sequence[nn.Parameter]) -> Tensor:
    """One buffer in which parameters lie, and of which they become views where they are not yet. `[n]`

    Raises:
        InvalidInputError: As for `FlatParameters`.
    """
    _check(parameters)
    found = _in_place([parameter.data for parameter in parameters], n=sum(map(_padded, parameters)))
    if found is not None:
        return found
    buffer = torch.zeros(sum(map(_padded, parameters)), device=parameters[0].device)
    for view, parameter in zip(_views(buffer, parameters), parameters, strict=True):
        view.copy_(parameter.data)
        parameter.data = view
    return buffer


def _in_place(tensors: Sequence[Tensor], *, n: int) -> Tensor | None:
    """The n numbers of memory in which tensors lie one after the other, None if they do not."""
    if not tensors:
        return None
    first, expected = tensors[0], tensors[0].data_ptr()
    if first.untyped_storage().nbytes() < (first.storage_offset() + n) * first.element_size():
        return None
    for tensor in tensors:
        same_memory = tensor.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        if not same_memory or tensor.data_ptr() != expected or not tensor.is_contiguous():
            return None
        expected += _padded(tensor) * tensor.element_size()
    return torch.as_strided(first, (n,), (1,), first.storage_offset())


def _views(buffer: Tensor, parameters: Sequence[nn.Parameter]) -> Sequence[Tensor]:
    pieces = torch.split_with_sizes(buffer, [_padded(parameter) for parameter in parameters])
    return [
        piece[: parameter.numel()].view(parameter.shape) for piece, parameter in zip(pieces, parameters, strict=True)
    ]


def _padded(parameter: Tensor) -> int:
    return -(-parameter.numel() // LINE) * LINE


def _check(parameters: Sequence[nn.Parameter]) -> None:
    kinds = {(parameter.dtype, parameter.device) for parameter in parameters}
    if len(kinds) != 1 or next(iter(kinds))[0] != torch.float32:
        found = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds)) or "none"
        raise InvalidInputError(f"Expected parameters of type torch.float32 on one device, got {found}.")
