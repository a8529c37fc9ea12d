"""Transitions as an update rule takes them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rl_framework.core.trees import Tree


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayBatch:
    """N transitions, each of which may stand for several steps, on one device.

    Rewards and discounts have one column for each discount factor that is learned about; the last one is acted on.

    Attributes:
        observations: What was seen. `[N, ...]` per leaf
        actions: What was done: of a Box the numbers brought to [-1, 1], float32 `[N, A]`; of a Discrete the choices
            counted from 0, int64 `[N]`.
        rewards: Discounted sums over the steps. `[N, k]`
        next_observations: What the steps led to. `[N, ...]` per leaf
        discounts: By how much what follows counts: the factor to the power of the number of steps, 0 where the task
            ended. `[N, k]`
        rows: Where they are in the replay. `[N]`, int64
        weights: Corrections for sampling with priorities, None where all count the same. `[N]`
    """

    observations: Tree
    actions: Tensor
    rewards: Tensor
    next_observations: Tree
    discounts: Tensor
    rows: Tensor
    weights: Tensor | None = None
