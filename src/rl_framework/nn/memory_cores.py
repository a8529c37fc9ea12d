"""Memory between encoder and heads: what a core remembers is an argument and a result of each step, never hidden."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from rl_framework.core.trees import Tree, map_tree
from rl_framework.nn.sizes import check_size


class MemoryCore(nn.Module, ABC):
    """Base of all cores: a subclass writes `initial_state` and `step`, and `unroll` where it can do better.

    Args:
        n_inputs: Number of features that come in.
        n_features: Number of features that go out.

    Raises:
        InvalidInputError: One of them is below 1.
    """

    def __init__(self, n_inputs: int, n_features: int) -> None:
        super().__init__()
        self.n_inputs = check_size("n_inputs", n_inputs)
        self.n_features = check_size("n_features", n_features)

    @abstractmethod
    def initial_state(self, n_rows: int) -> Tree:
        """Memory at the start of an episode, on the device of the parameters. `[n_rows, ...]` per leaf"""

    @abstractmethod
    def step(self, features: Tensor, state: Tree) -> tuple[Tensor, Tree]:
        """One time step.

        Args:
            features: Of the current observations. `[N, n_inputs]`
            state: Memory before the step. `[N, ...]` per leaf

        Returns:
            Features that know the past, `[N, n_features]`, and the memory after the step, `[N, ...]` per leaf.
        """

    def unroll(self, features: Tensor, state: Tree, starts: Tensor) -> tuple[Tensor, Tree]:
        """Consecutive time steps, with memory handed on from each to the next.

        Args:
            features: `[L, N, n_inputs]`
            state: Memory before the first step. `[N, ...]` per leaf
            starts: True where an episode begins: the memory is cleared before that step. `[L, N]`

        Returns:
            Features of all steps, `[L, N, n_features]`, and the memory after the last, `[N, ...]` per leaf.
        """
        initial = self.initial_state(features.shape[1])
        outputs = []
        for inputs, begins in zip(features, starts, strict=True):
            output, state = self.step(inputs, where_starting(begins, initial, state))
            outputs.append(output)
        return torch.stack(outputs), state


def where_starting(starts: Tensor, initial: Tree, state: Tree) -> Tree:
    """The initial memory in rows where an episode begins, the given one elsewhere. `[N]`, `[N, ...]` per leaf"""
    return map_tree(lambda new, old: torch.where(rowwise(starts, old), new, old), initial, state)


def rowwise(flags: Tensor, like: Tensor) -> Tensor:
    """Flags shaped so that they apply to whole rows of a tensor. `[N]` to `[N, 1, ...]`"""
    return flags.view(-1, *[1] * (like.dim() - 1))
