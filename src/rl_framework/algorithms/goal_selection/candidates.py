"""Goals among which one is to be chosen for each of several environments, and the choice."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rl_framework.core.trees import Tree


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidates:
    """N goals for each of E environments.

    Attributes:
        goals: Flattened. `[E, N, G]`
        values: What the policy expects to earn on its way to them. `[E, N]`
        observations: Where the environments are. `[E, ...]` per leaf
    """

    goals: Tensor
    values: Tensor
    observations: Tree

    @property
    def flat(self) -> Tensor:
        """All goals. `[E * N, G]`"""
        return self.goals.flatten(0, 1)


def choose(log_weights: Tensor, values: Tensor, cutoff: float | None, generator: torch.Generator | None) -> Tensor:
    """One candidate for each environment: of those that count as reachable the one with the greatest weight.

    Where none counts as reachable, it is the one with the greatest value.

    Args:
        log_weights: Logarithms, up to a constant per environment. `[E, N]`
        values: `[E, N]`
        cutoff: The least value of what counts as reachable, None if everything does.
        generator: Candidates are drawn with probabilities in proportion to their weights, instead of taking the
            greatest, if it is given.

    Returns:
        Indices. `[E]`
    """
    if generator is not None:
        # The maximum of logarithms with Gumbel noise falls on each in proportion to its weight.
        uniform = torch.rand(log_weights.shape, generator=generator, device=log_weights.device, dtype=torch.float64)
        log_weights = log_weights - (-uniform.clamp(1e-300).log()).log()
    if cutoff is None:
        return log_weights.argmax(1)
    is_viable = values >= cutoff
    best = log_weights.masked_fill(~is_viable, -torch.inf).argmax(1)
    return torch.where(is_viable.any(1), best, values.argmax(1))
