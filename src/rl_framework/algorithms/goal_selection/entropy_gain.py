"""How much the entropy of what was achieved is expected to grow if a goal is pursued."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rl_framework.algorithms.goal_selection.candidates import Candidates
from rl_framework.algorithms.goal_selection.goal_memory import GoalMemory
from rl_framework.algorithms.goal_selection.scores import LEAST_WEIGHT, GoalScore
from rl_framework.algorithms.parts import Workshop
from rl_framework.functional.kernel_density import KernelDensity

WINDOW = 10
"""Candidates that are looked at as what might be achieved in pursuit of one."""


@dataclass(frozen=True, slots=True)
class GoalDensities:
    """Densities of goals in a replay.

    Attributes:
        pursued: Of what was pursued.
        achieved: Of what was achieved.
        joint: Of both together.
    """

    pursued: KernelDensity
    achieved: KernelDensity
    joint: KernelDensity


def expected_entropy_gain(goals: Tensor, densities: GoalDensities, share: float) -> Tensor:
    """Growth of the entropy of achieved goals per share of one more, if goals are pursued.

    What is achieved in pursuit of a goal is taken to be one of the goals from there on, 10 of them, with the
    probabilities that the densities give it under the condition of that pursuit. The change is that of -p ln p there.

    Args:
        goals: `[E, N, G]`
        densities: Of what was pursued and achieved before.
        share: What share of the replay one more is.

    Returns:
        `[E, N]`, float64

    Source: Pitis et al., 2020 (https://arxiv.org/abs/2007.02832), section 3, by samples.
    """
    n_envs, n, width = goals.shape
    window = (torch.arange(n, device=goals.device)[:, None] + torch.arange(WINDOW, device=goals.device)) % n
    might = goals[:, window]
    pairs = torch.cat([goals.unsqueeze(2).expand_as(might), might], 3).reshape(-1, 2 * width)
    joint = densities.joint.log_density(pairs).reshape(n_envs, n, WINDOW).double()
    flat = goals.reshape(-1, width)
    alone = densities.pursued.log_density(flat).reshape(n_envs, n, 1).double()
    before = densities.achieved.log_density(flat).double().exp().reshape(n_envs, n)
    gain = (_entropy_term(before + share) - _entropy_term(before)) / share
    return (gain[:, window] * torch.softmax(joint - alone, 2)).mean(2)


def _entropy_term(density: Tensor) -> Tensor:
    return -torch.xlogy(density, density)


class EntropyGainScore(GoalScore):
    """The expected growth of the entropy of achieved goals, counted from the least among the candidates.

    Args:
        n_points: Transitions that densities are fitted to, drawn anew for each choice.
        bandwidth: Width of the kernels, in standard deviations.
    """

    def __init__(self, n_points: int = 10_000, bandwidth: float = 0.1) -> None:
        self._n_points, self._bandwidth = n_points, bandwidth

    def set_up(self, memory: GoalMemory, workshop: Workshop) -> None:
        """Find what goals are drawn from."""
        self._memory, self._generator = memory, workshop.generator

    def log_weights(self, candidates: Candidates) -> Tensor:
        """Logarithms of the gains above the least one. `[E, N]`"""
        pursued, achieved = self._memory.pursued_and_achieved(self._n_points, self._generator)
        fitted = [
            KernelDensity.fit(points, bandwidth=self._bandwidth)
            for points in (pursued, achieved, torch.cat([pursued, achieved], 1))
        ]
        gain = expected_entropy_gain(candidates.goals, GoalDensities(*fitted), 1.0 / len(self._memory))
        return (gain - gain.amin(1, keepdim=True) + LEAST_WEIGHT).log()
