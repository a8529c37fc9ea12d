"""Normal numbers squashed into [-1, 1] by tanh, drawn together with their log-densities."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812  # torch's own convention

from rl_framework.functional.log_probabilities import HALF_LOG_TWO_PI, LOG_TWO


def squashed_sample(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Squashed normal numbers, and the log-density of each row, with a gradient that is written out.

    With u the normal number, the logarithm of the slope of tanh, log(1 - tanh(u)^2), is taken as
    2 (log 2 - u - softplus(-2 u)), which neither overflows nor loses digits far out. With g and h the gradients by the
    squashed number and the log-density, that by u is g (1 - tanh(u)^2) + 2 h tanh(u). It can be taken once.

    Args:
        mean: Of the normal numbers. `[N, n]`
        log_std: Logarithms of their standard deviations. `[N, n]`
        noise: Standard normal numbers. `[N, n]`

    Returns:
        Squashed numbers `[N, n]` and log-densities `[N]`.

    Source: Haarnoja et al., Soft Actor-Critic, 2018 (https://arxiv.org/abs/1801.01290), appendix C.
    """
    found: tuple[Tensor, Tensor] = _SquashedSample.apply(mean, log_std, noise)  # type: ignore[no-untyped-call]  # torch's
    return found


class _SquashedSample(torch.autograd.Function):
    """Squashed numbers and their log-densities."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """As `squashed_sample`."""
        distances = noise * log_std.exp()
        numbers = mean + distances
        squashed = torch.tanh(numbers)
        log_densities = F.softplus(numbers * -2.0).add_(numbers).mul_(2.0)
        log_densities.addcmul_(noise, noise, value=-0.5).sub_(log_std)
        ctx.save_for_backward(squashed, distances)
        return squashed, log_densities.sum(1).sub_(mean.shape[1] * (HALF_LOG_TWO_PI + 2.0 * LOG_TWO))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_squashed: Tensor, of_log_density: Tensor) -> tuple[Tensor, Tensor, None]:
        """By means and logarithms of standard deviations."""
        squashed, distances = ctx.saved_tensors
        of_rows = of_log_density.unsqueeze(1)
        of_numbers = torch.ops.aten.tanh_backward(of_squashed, squashed).addcmul_(of_rows, squashed, value=2.0)
        return of_numbers, torch.addcmul(-of_rows, of_numbers, distances), None
