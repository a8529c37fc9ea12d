"""How often a learner pursues what the environments ask for: the more, the better what it achieves covers that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rl_framework.algorithms.goal_selection.goal_memory import GoalMemory
from rl_framework.algorithms.parts import Workshop
from rl_framework.algorithms.setting_ranges import check_count, check_number
from rl_framework.functional.kernel_density import KernelDensity


@dataclass(frozen=True, kw_only=True, slots=True)
class DesiredGoalMixingConfig:
    """Settings of how often the environments' goals are pursued.

    Attributes:
        bias: Is added to the divergence of desired from achieved goals, in nats; at -3, desired goals are always
            pursued up to a divergence of 4.
        every: Optimisation steps of the learner between estimates.
        n_desired: Desired goals per estimate.
        n_achieved: Achieved goals per estimate.
        bandwidth: Of both densities, in standard deviations of the achieved goals.
    """

    bias: float = -3.0
    every: int = 100
    n_desired: int = 1000
    n_achieved: int = 10_000
    bandwidth: float = 0.1

    def __post_init__(self) -> None:
        check_number("bias of the mixing of goals", self.bias)
        check_number("bandwidth of the mixing of goals", self.bandwidth, low=1e-6)
        for name in ("every", "n_desired", "n_achieved"):
            check_count(f"{name} of the mixing of goals", getattr(self, name))


class DesiredGoalMixing:
    """Estimates the share from densities around desired and achieved goals, whenever it is asked for and due.

    Args:
        config: Settings.

    Source: OMEGA, in Pitis et al., Maximum Entropy Gain Exploration for Long Horizon Multi-goal Reinforcement
    Learning, 2020 (https://arxiv.org/abs/2007.02832), section 4.
    """

    def __init__(self, config: DesiredGoalMixingConfig | None = None) -> None:
        self.config = config or DesiredGoalMixingConfig()
        self._share = 0.0
        self._step = 0
        self._due = 1

    def set_up(self, memory: GoalMemory, workshop: Workshop) -> None:
        """Find what goals are drawn from."""
        self._memory, self._generator = memory, workshop.generator

    def learn(self, step: int) -> None:
        """Take note of the learner's optimisation steps."""
        self._step = step

    def share(self) -> float:
        """Probability with which an environment's own goal is pursued, if it is within reach; 0 before learning."""
        if self._step >= self._due:
            self._due = self._step + self.config.every
            desired = self._memory.environment_goals(self.config.n_desired, self._generator)
            achieved = self._memory.achieved(self.config.n_achieved, self._generator)
            self._share = float(mixing_share(desired, achieved, self.config.bias, self.config.bandwidth))
        return self._share

    def state_dict(self) -> dict[str, Any]:
        """The last estimate, and when the next one is due."""
        return {"share": self._share, "step": self._step, "due": self._due}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._share, self._step, self._due = float(state["share"]), int(state["step"]), int(state["due"])


def mixing_share(desired: Tensor, achieved: Tensor, bias: float, bandwidth: float = 0.1) -> Tensor:
    """1 / max(bias + KL, 1), with the divergence of desired from achieved goals by kernel densities; `[]`.

    Args:
        desired: `[N, G]`
        achieved: `[M, G]`
        bias: Is added to the divergence, in nats.
        bandwidth: Of both densities, in standard deviations of the achieved goals.
    """
    of_achieved = KernelDensity.fit(achieved, bandwidth=bandwidth)
    of_desired = KernelDensity.fit(desired, bandwidth=bandwidth, standardization=of_achieved.standardization)
    divergence = (of_desired.log_density(desired) - of_achieved.log_density(desired)).mean()
    return 1.0 / torch.clamp(bias + divergence, min=1.0)
