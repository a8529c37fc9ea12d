"""Several networks of one shape as one: each layer is a single operation on the weights of all of them.

An ensemble of critics is asked about the same rows, and small networks spend their time on being called: E networks in
a stack cost little more calls than one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # torch's own convention

from rl_framework.errors import UnknownOptionError
from rl_framework.nn.mlp import IN_PLACE
from rl_framework.nn.network_shape import NetworkShape
from rl_framework.nn.policy_network import ACTIVATIONS
from rl_framework.nn.sizes import as_sizes, check_size
from rl_framework.nn.stacked_kernels import run_stack

ORTHOGONAL_OUTPUT_GAIN = 0.1


class StackedMLP(nn.Module):
    """E networks of linear layers, each hidden one followed by an activation.

    Weights begin as those of `nn.Linear`.

    Args:
        n_members: Number of networks, E.
        n_inputs: Width of what comes in, F.
        sizes: Widths of the hidden layers.
        n_outputs: Width of what goes out, or its shape.
        activation: What follows the hidden layers, by its name in `ACTIVATIONS`.
        layer_norm: Whether units are normalised before the activation, with gains and shifts that are learned.

    Raises:
        InvalidInputError: A size is no whole number from 1.
        UnknownOptionError: There is no such activation.
    """

    def __init__(
        self,
        n_members: int,
        n_inputs: int,
        sizes: Sequence[int],
        n_outputs: int | tuple[int, ...],
        activation: str = "relu",
        *,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise UnknownOptionError.of("activation", str(activation), ACTIVATIONS)
        self.n_members = check_size("n_members", n_members)
        self.output_shape = as_sizes("n_outputs", n_outputs if isinstance(n_outputs, tuple) else (n_outputs,))
        widths = (check_size("n_inputs", n_inputs), *as_sizes("sizes", sizes), math.prod(self.output_shape))
        self.activation = ACTIVATIONS[activation]()
        self.n_layers = len(widths) - 1
        self._fused = None if layer_norm else IN_PLACE.get(type(self.activation))
        for index, (before, after) in enumerate(pairwise(widths)):
            self.register_parameter(f"weight_{index}", nn.Parameter(torch.empty(n_members, before, after)))
        for index, width in enumerate(widths[1:]):
            self.register_parameter(f"bias_{index}", nn.Parameter(torch.empty(n_members, 1, width)))
        for index, width in enumerate(widths[1:-1] if layer_norm else ()):
            self.register_parameter(f"gain_{index}", nn.Parameter(torch.ones(n_members, 1, width)))
            self.register_parameter(f"shift_{index}", nn.Parameter(torch.zeros(n_members, 1, width)))
        self.begin_uniformly()

    @classmethod
    def of_shape(
        cls, n_members: int, n_inputs: int, n_outputs: int | tuple[int, ...], shape: NetworkShape
    ) -> StackedMLP:
        """Networks as the settings say."""
        stack = cls(n_members, n_inputs, shape.hidden_sizes, n_outputs, shape.activation, layer_norm=shape.layer_norm)
        if shape.initial_weights == "orthogonal":
            stack.begin_orthogonally()
        return stack

    def forward(self, inputs: Tensor, actions: Tensor | None = None) -> Tensor:
        """What each network makes of its rows.

        Args:
            inputs: The same rows for all networks, `[N, F]`, or to each its own, `[E, N, F]`.
            actions: Further columns of the same rows. `[N, A]` or `[E, N, A]`

        Returns:
            `[E, N, *outputs]`
        """
        return self._run(inputs, actions, tuple(self._parameters.values()))  # type: ignore[arg-type]  # none is None

    def judge(self, inputs: Tensor, actions: Tensor | None = None, *, members: int | None = None) -> Tensor:
        """As `forward`, with gradients by what goes in only: no parameter gets one.

        Args:
            inputs: As there.
            actions: As there.
            members: Ask only so many of the networks, E of them; None for all.

        Returns:
            `[E, N, *outputs]`
        """
        return self._run(inputs, actions, [parameter.detach()[:members] for parameter in self.parameters()])

    @property
    def weights(self) -> tuple[Tensor, ...]:
        """Of each layer. `[E, n_inputs, n_outputs]`"""
        return tuple(self.parameters())[: self.n_layers]

    @property
    def biases(self) -> tuple[Tensor, ...]:
        """Of each layer. `[E, 1, n_outputs]`"""
        return tuple(self.parameters())[self.n_layers : 2 * self.n_layers]

    @torch.no_grad()
    def begin_uniformly(self) -> None:
        """Draw weights and biases as `nn.Linear` does: evenly within 1 / sqrt(number of inputs)."""
        for weight, bias in zip(self.weights, self.biases, strict=True):
            bound = 1.0 / math.sqrt(weight.shape[1])
            weight.uniform_(-bound, bound)
            bias.uniform_(-bound, bound)

    @torch.no_grad()
    def begin_orthogonally(self, output_gain: float = ORTHOGONAL_OUTPUT_GAIN) -> None:
        """Draw orthogonal weights, those of the outputs with a gain of their own, and no biases."""
        for weight, bias in zip(self.weights, self.biases, strict=True):
            gain = output_gain if weight is self.weights[-1] else 1.0
            for member in weight:
                nn.init.orthogonal_(member, gain)
            bias.zero_()

    def _run(self, inputs: Tensor, actions: Tensor | None, parameters: Sequence[Tensor]) -> Tensor:
        weights, biases = parameters[: self.n_layers], parameters[self.n_layers : 2 * self.n_layers]
        if self._fused is not None and not torch.compiler.is_compiling():
            return run_stack(inputs, actions, self._fused, weights, biases, output_shape=self.output_shape)
        values = inputs if actions is None else torch.cat([inputs, actions], -1)
        values = values.expand(len(weights[0]), -1, -1)
        norms = parameters[2 * self.n_layers :]
        for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            values = torch.baddbmm(bias, values, weight)
            if index < self.n_layers - 1:
                values = self.activation(_normalised(values, *norms[2 * index : 2 * index + 2]))
        return values if len(self.output_shape) == 1 else values.view(*values.shape[:2], *self.output_shape)


def _normalised(values: Tensor, gain: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
    """`[E, N, n]` unit by unit of each row, times a gain, plus a shift; as it is without them. `[E, 1, n]` each"""
    if gain is None or shift is None:
        return values
    return torch.addcmul(shift, F.layer_norm(values, values.shape[-1:]), gain)
