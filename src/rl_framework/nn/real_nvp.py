"""A density that is learned: a normal distribution, bent by layers that can be undone."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class AffineCoupling(nn.Module):
    """Scales and shifts one half of the numbers, by how much the other half says.

    Args:
        n_inputs: Number of numbers, D.
        transforms_even: Whether the numbers at even positions change; otherwise those at odd positions.
        hidden_size: Units of each of the two hidden layers of the networks that say so.
    """

    mask: Tensor

    def __init__(self, n_inputs: int, *, transforms_even: bool, hidden_size: int) -> None:
        super().__init__()
        self.register_buffer("mask", (torch.arange(n_inputs) % 2 == (0 if transforms_even else 1)).float())
        self.scale = _network(n_inputs, hidden_size)
        self.shift = _network(n_inputs, hidden_size)

    def forward(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Changed numbers, and the logarithm of by how much they spread out. `[N, D]` to `[N, D]` and `[N]`"""
        log_scale, shift = self._say(numbers)
        return numbers * log_scale.exp() + shift, log_scale.sum(1)

    def inverse(self, numbers: Tensor) -> Tensor:
        """What becomes these numbers. `[N, D]`"""
        log_scale, shift = self._say(numbers)
        return (numbers - shift) * (-log_scale).exp()

    def _say(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        kept = numbers * (1.0 - self.mask)
        return torch.tanh(self.scale(kept)) * self.mask, self.shift(kept) * self.mask


class RealNVP(nn.Module):
    """Coupling layers between numbers and standard normal ones.

    Args:
        n_inputs: Number of numbers, D.
        n_pairs: Pairs of layers, of which one changes the numbers at even and one those at odd positions.
        hidden_size: Units of each of the two hidden layers of each layer's networks.

    Source: Dinh, Sohl-Dickstein & Bengio, Density Estimation Using Real NVP, 2017 (https://arxiv.org/abs/1605.08803).
    """

    def __init__(self, n_inputs: int, *, n_pairs: int = 3, hidden_size: int = 256) -> None:
        super().__init__()
        self.n_inputs = n_inputs
        self.layers = nn.ModuleList(
            AffineCoupling(n_inputs, transforms_even=index % 2 == 0, hidden_size=hidden_size)
            for index in range(2 * n_pairs)
        )

    def forward(self, numbers: Tensor) -> Tensor:
        """Logarithms of their densities. `[N, D]` to `[N]`"""
        spread = numbers.new_zeros(len(numbers))
        for layer in self.layers:
            numbers, added = layer(numbers)
            spread = spread + added
        normal = numbers.square().sum(1).mul(-0.5) - 0.5 * self.n_inputs * math.log(2.0 * math.pi)
        return normal + spread

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw from the density. `[n, D]`"""
        numbers = torch.randn(n, self.n_inputs, generator=generator, device=generator.device)
        for layer in reversed(self.layers):
            numbers = layer.inverse(numbers)  # type: ignore[operator]  # it is an AffineCoupling
        return numbers


def _network(n_inputs: int, hidden_size: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(n_inputs, hidden_size),
        nn.LeakyReLU(),
        nn.Linear(hidden_size, hidden_size),
        nn.LeakyReLU(),
        nn.Linear(hidden_size, n_inputs),
    )
