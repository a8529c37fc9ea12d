"""Values of many observations at once, and of what was not played: what would have followed a time limit."""

from __future__ import annotations

import torch
from torch import Tensor

from rl_framework.core.trees import Tree, batch_size, leaves, map_tree, select
from rl_framework.envs.tensor_env import TensorStep
from rl_framework.nn.model import Model

CACHED_ROWS = 4096
CACHED_NUMBERS = 2**20


class Bootstraps:
    """Values of the true last observations of episodes that were cut.

    Args:
        policy: What values them.
        looks: Whether the host may look which rows were cut: then only those are kept, and valued together at the end.
            Otherwise all rows are valued in every step in which one may have been cut.
    """

    def __init__(self, policy: Model, *, looks: bool) -> None:
        self._policy = policy
        self._looks = looks
        self._cut: list[tuple[Tensor, Tensor, Tree]] = []
        self._valued: list[tuple[int, Tensor, Tensor]] = []

    def note(self, index: int, step: TensorStep, state: Tree) -> None:
        """Keep what is needed of a step.

        Args:
            index: Its number, t.
            step: What it gave, `final` included.
            state: The policy's memory after it. `[B, ...]` per leaf
        """
        if not self._looks:
            with torch.no_grad():
                self._valued.append((index, step.truncated, self._policy.values(step.final, state)))
            return
        rows = step.truncated.nonzero().squeeze(1)
        if len(rows):
            inputs = (step.final,) if state is None else (step.final, map_tree(torch.Tensor.detach, state))
            self._cut.append((torch.full_like(rows, index), rows, select(inputs, rows)))

    def write(self, next_values: Tensor) -> None:
        """Put them where episodes were cut. `[T, B]`"""
        for index, truncated, values in self._valued:
            next_values[index] = torch.where(truncated, values.to(next_values.dtype), next_values[index])
        if self._cut:
            index, rows, inputs = map_tree(lambda *parts: torch.cat(parts), self._cut[0], *self._cut[1:])
            next_values[index, rows] = values_in_blocks(self._policy, *inputs).to(next_values.dtype)


def values_in_blocks(policy: Model, observations: Tree, state: Tree = None) -> Tensor:
    """Values of any number of observations; on the CPU in blocks that stay in its cache. `[N]`

    Args:
        policy: What values them.
        observations: `[N, ...]` per leaf
        state: The policy's memory. `[N, ...]` per leaf
    """
    count, rows = batch_size(observations), _rows_per_block(observations)
    if count <= rows:
        return policy.values(observations, state)
    inputs = (observations,) if state is None else (observations, state)
    blocks = [map_tree(lambda leaf, low=low: leaf[low : low + rows], inputs) for low in range(0, count, rows)]
    return torch.cat([policy.values(*block) for block in blocks])


def _rows_per_block(observations: Tree) -> int:
    found: list[Tensor] = leaves(observations)
    if found[0].device.type != "cpu":
        return len(found[0])
    numbers = sum(leaf[0].numel() for leaf in found)
    return min(CACHED_ROWS, max(64, CACHED_NUMBERS // max(1, numbers)))
