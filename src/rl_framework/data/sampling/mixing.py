"""Minibatches of which fixed parts come from different replays: own experience and demonstrations."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from rl_framework.core.trees import map_tree
from rl_framework.data.replay_batch import ReplayBatch
from rl_framework.data.sampling.replay_sampler import Sampler
from rl_framework.errors import InvalidInputError


class MixedSampler:
    """Joins minibatches of several samplers, each giving its share of every one.

    Rows of a joined minibatch are those of their own replays, sampler by sampler.

    Source: Vecerik et al., Leveraging Demonstrations for Deep Reinforcement Learning on Robotics Problems with Sparse
    Rewards (2017), and Ball et al., Efficient Online Reinforcement Learning with Offline Data (2023).

    Args:
        samplers: The first one is that of the growing replay, and is told of new rows.
        shares: Of each sampler; they add up to one. Each is rounded to a whole number of transitions, up or down, the
            same for every minibatch of a size.

    Raises:
        InvalidInputError: There is not one share for each sampler, or they do not add up to one.
    """

    def __init__(self, samplers: Sequence[Sampler], shares: Sequence[float]) -> None:
        if len(samplers) != len(shares) or not samplers:
            raise InvalidInputError(f"Expected one share for each of {len(samplers)} samplers, got {tuple(shares)}.")
        if not all(share >= 0.0 for share in shares) or abs(sum(shares) - 1.0) > 1e-6:
            raise InvalidInputError(f"The shares of samplers must be 0 or more and add up to 1, got {tuple(shares)}.")
        self._samplers, self._shares = tuple(samplers), tuple(shares)

    def counts(self, n: int) -> list[int]:
        """How many of n transitions each sampler gives."""
        bounds = [round(bound * n) for bound in accumulate(self._shares, initial=0.0)]
        return [high - low for low, high in pairwise(bounds)]

    def sample(self, n: int, generator: torch.Generator) -> ReplayBatch:
        """Draw a minibatch of n transitions."""
        parts = zip(self._samplers, self.counts(n), strict=True)
        return _joined([sampler.sample(count, generator) for sampler, count in parts if count > 0])

    def added(self, rows: Tensor) -> None:
        """Take note of rows that were just stored in the first replay. `[B]`"""
        self._samplers[0].added(rows)

    def update_priorities(self, rows: Tensor, errors: Tensor) -> None:
        """Take note of how wrong the learner was about a whole minibatch, in its order. `[N]` and `[N]`"""
        counts = self.counts(len(rows))
        parts = zip(self._samplers, torch.split(rows, counts), torch.split(errors, counts), strict=True)
        for sampler, own_rows, own_errors in parts:
            if len(own_rows) > 0:
                sampler.update_priorities(own_rows, own_errors)

    def state_dict(self) -> dict[str, Any]:
        """Those of the samplers, in their order."""
        return {"samplers": [sampler.state_dict() for sampler in self._samplers]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        for sampler, own in zip(self._samplers, state["samplers"], strict=True):
            sampler.load_state_dict(own)


def _joined(batches: Sequence[ReplayBatch]) -> ReplayBatch:
    if len(batches) == 1:
        return batches[0]
    return ReplayBatch(
        observations=_joined_trees([batch.observations for batch in batches]),
        actions=torch.cat([batch.actions for batch in batches]),
        rewards=torch.cat([batch.rewards for batch in batches]),
        next_observations=_joined_trees([batch.next_observations for batch in batches]),
        discounts=torch.cat([batch.discounts for batch in batches]),
        rows=torch.cat([batch.rows for batch in batches]),
        weights=_joined_weights(batches),
    )


def _joined_trees(trees: Sequence[Any]) -> Any:
    return map_tree(lambda *leaves: torch.cat(leaves), *trees)


def _joined_weights(batches: Sequence[ReplayBatch]) -> Tensor | None:
    """Transitions that were drawn evenly count in full."""
    if all(batch.weights is None for batch in batches):
        return None
    ones = [torch.ones_like(batch.rewards[:, 0]) if batch.weights is None else batch.weights for batch in batches]
    return torch.cat(ones)
