"""What a learner does with its gradients, without waiting for a device."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

EPSILON = 1e-6


def forget_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Have no gradients; what `Optimizer.zero_grad` does, at a tenth of its time."""
    for parameter in parameters:
        parameter.grad = None


def cut_gradients(parameters: Iterable[nn.Parameter], limit: float | None) -> Tensor:
    """Cut gradients to their greatest length, in place.

    Args:
        parameters: Whose; those without a gradient are passed over.
        limit: The greatest length; None for any.

    Returns:
        The length that they had, 0 where there are none. `[]`
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return torch.zeros(())
    length: Tensor = torch.stack(torch._foreach_norm(gradients)).norm()
    if limit is not None:
        torch._foreach_mul_(gradients, (limit / (length + EPSILON)).clamp_(max=1.0))
    return length
