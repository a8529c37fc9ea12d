"""A value function that learns at unit scale, whatever the size of returns."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rl_framework.nn.mlp import MLP
from rl_framework.nn.policy_network import HIDDEN_GAIN, initialize

LAST_GAIN = 0.01
SMALLEST = 1e-4


class ScaledValue(nn.Module):
    """Expected returns from state encodings: hidden layers, and an output that is put into the returns' units.

    When the units move, the last layer moves against them, so that what it says stays the same.

    Args:
        n_inputs: Width of an encoding, d.
        hidden_sizes: Number of units of each hidden layer.
        dropout: Share of its inputs that each hidden layer does without in training mode.

    Source: van Hasselt et al., Learning values across many orders of magnitude, 2016
    (https://arxiv.org/abs/1602.07714), section 2 (Pop-Art).
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, n_inputs: int, hidden_sizes: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        self.hidden = MLP(n_inputs, hidden_sizes, nn.ReLU)
        self.head = nn.Linear((n_inputs, *hidden_sizes)[-1], 1)
        self.dropout = dropout
        initialize(self.hidden, HIDDEN_GAIN)
        initialize(self.head, LAST_GAIN)
        self.register_buffer("mean", torch.zeros((), dtype=torch.float64))
        self.register_buffer("deviation", torch.ones((), dtype=torch.float64))

    def forward(self, encodings: Tensor) -> Tensor:
        """In the units of rewards. `[N, d]` to `[N]`"""
        numbers = self.normalized(encodings)
        return numbers * self.deviation.to(numbers.dtype) + self.mean.to(numbers.dtype)

    def normalized(self, encodings: Tensor) -> Tensor:
        """At unit scale. `[N, d]` to `[N]`"""
        inputs = encodings.to(self.head.weight.dtype)
        if self.training and self.dropout:
            for layer in self.hidden:
                dropped = isinstance(layer, nn.Linear)
                inputs = layer(nn.functional.dropout(inputs, self.dropout) if dropped else inputs)
            numbers: Tensor = self.head(inputs)
        else:
            numbers = self.hidden.into(self.head, inputs)
        return numbers.squeeze(1)

    def normalize(self, values: Tensor) -> Tensor:
        """Values from the units of rewards to unit scale. `[N]`"""
        return ((values - self.mean) / self.deviation).to(values.dtype)

    @torch.no_grad()
    def rescale(self, mean: Tensor, deviation: Tensor) -> None:
        """Change what unit scale means; what `forward` says stays the same.

        Args:
            mean: Of the returns. `[]`
            deviation: Theirs; at least 1e-4. `[]`
        """
        wider = deviation.double().clamp(min=SMALLEST)
        ratio, shift = self.deviation / wider, (self.mean - mean) / wider
        self.head.weight.mul_(ratio)
        self.head.bias.mul_(ratio).add_(shift)
        self.mean.copy_(mean)
        self.deviation.copy_(wider)
