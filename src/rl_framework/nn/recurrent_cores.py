"""Recurrent memory: LSTM and GRU layers that are stepped while acting and unrolled, resets included, while learning."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn

from rl_framework.core.trees import Tree
from rl_framework.nn.gru_kernel import gru_loop, gru_sequence, gru_step
from rl_framework.nn.lstm_kernel import lstm_loop, lstm_sequence, lstm_step
from rl_framework.nn.memory_cores import MemoryCore
from rl_framework.nn.recurrent_kernels import suits_kernels
from rl_framework.nn.sizes import check_size

BLOCK_BYTES = 16 * 2**20
FEWEST_ROWS = 128

Memory = tuple[Tensor, ...]


class RecurrentCore(MemoryCore):
    """Layers of recurrent units; the features are the hidden units of the last layer.

    Parameters are named, laid out and at first distributed as those of `torch.nn.LSTM` and `torch.nn.GRU`, so that a
    state dict of one fits the other. Memory is zero at the start of an episode.

    Args:
        n_inputs: Number of features that come in.
        hidden_size: Number of units per layer.
        n_layers: Number of layers.

    Raises:
        InvalidInputError: A number is below 1.
    """

    memory_names: ClassVar[tuple[str, ...]]
    n_gates: ClassVar[int]

    def __init__(self, n_inputs: int, hidden_size: int, *, n_layers: int = 1) -> None:
        super().__init__(n_inputs, check_size("hidden_size", hidden_size))
        self.n_layers = check_size("n_layers", n_layers)
        for layer in range(n_layers):
            self._add_layer(layer, n_inputs if layer == 0 else hidden_size)

    def initial_state(self, n_rows: int) -> Tree:
        """Zeros. `[n_rows, n_layers, hidden_size]` per leaf"""
        like = self.get_parameter("weight_hh_l0")
        return {name: like.new_zeros(n_rows, self.n_layers, self.n_features) for name in self.memory_names}

    def step(self, features: Tensor, state: Tree) -> tuple[Tensor, Tree]:
        """One time step; see `MemoryCore.step`."""
        memories = []
        for memory, weights in self._layers(state):
            memories.append(self._step(features, memory, weights))
            features = memories[-1][0]
        return features, self._state(memories)

    def unroll(self, features: Tensor, state: Tree, starts: Tensor) -> tuple[Tensor, Tree]:
        """Consecutive time steps; see `MemoryCore.unroll`.

        Where gradients are wanted, a CPU computes them by passes written for it. Gradients of gradients, other
        devices, autocast and compilation take torch's own cells, step by step, with the same results.
        """
        memories = []
        for memory, weights in self._layers(state):
            is_fast = torch.is_grad_enabled() and suits_kernels(features, (*memory, *weights))
            features, after = self._run(starts, features, memory, weights, is_fast=is_fast)
            memories.append(after)
        return features, self._state(memories)

    def preferred_rows(self, n_steps: int) -> int:
        """Number of sequences per block at which a CPU learns fastest: what a block needs fits its caches.

        Args:
            n_steps: Length of the sequences, L.
        """
        size = 4 * n_steps * self.n_features * (self.n_gates + 4)
        return max(FEWEST_ROWS, 1 << max(1, BLOCK_BYTES // size).bit_length() - 1)

    @abstractmethod
    def _step(self, features: Tensor, memory: Memory, weights: Memory) -> Memory:
        """One step of one layer: its memory after the step, the hidden units first."""

    @abstractmethod
    def _run(
        self, starts: Tensor, inputs: Tensor, memory: Memory, weights: Memory, *, is_fast: bool
    ) -> tuple[Tensor, Memory]:
        """All steps of one layer: its hidden units after each and its memory after the last."""

    def _add_layer(self, layer: int, n_inputs: int) -> None:
        n_outputs, bound = self.n_gates * self.n_features, self.n_features**-0.5
        shapes = {"weight_ih": (n_outputs, n_inputs), "weight_hh": (n_outputs, self.n_features)}
        for name, shape in {**shapes, "bias_ih": (n_outputs,), "bias_hh": (n_outputs,)}.items():
            values = torch.empty(shape).uniform_(-bound, bound)
            self.register_parameter(f"{name}_l{layer}", nn.Parameter(values))

    def _layers(self, state: Tree) -> Iterator[tuple[Memory, Memory]]:
        """Memory and weights, layer by layer."""
        for layer in range(self.n_layers):
            names = (f"{name}_l{layer}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
            weights = tuple(self.get_parameter(name) for name in names)
            yield tuple(state[name][:, layer] for name in self.memory_names), weights

    def _state(self, memories: list[Memory]) -> Tree:
        parts = zip(*memories, strict=True)
        return {name: _side_by_side(part) for name, part in zip(self.memory_names, parts, strict=True)}


class LSTMCore(RecurrentCore):
    """Long short-term memory; the state is `{"hidden", "cell"}`."""

    memory_names = ("hidden", "cell")
    n_gates = 4

    def _step(self, features: Tensor, memory: Memory, weights: Memory) -> Memory:
        return lstm_step(features, *memory, *weights)

    def _run(
        self, starts: Tensor, inputs: Tensor, memory: Memory, weights: Memory, *, is_fast: bool
    ) -> tuple[Tensor, Memory]:
        run = lstm_sequence if is_fast else lstm_loop
        outputs, cell = run(starts, inputs, *memory, *weights)
        return outputs, (outputs[-1], cell)


class GRUCore(RecurrentCore):
    """Gated recurrent units; the state is `{"hidden"}`."""

    memory_names = ("hidden",)
    n_gates = 3

    def _step(self, features: Tensor, memory: Memory, weights: Memory) -> Memory:
        return (gru_step(features, *memory, *weights),)

    def _run(
        self, starts: Tensor, inputs: Tensor, memory: Memory, weights: Memory, *, is_fast: bool
    ) -> tuple[Tensor, Memory]:
        outputs = (gru_sequence if is_fast else gru_loop)(starts, inputs, *memory, *weights)
        return outputs, (outputs[-1],)


def _side_by_side(parts: Memory) -> Tensor:
    return parts[0].unsqueeze(1) if len(parts) == 1 else torch.stack(parts, 1)
