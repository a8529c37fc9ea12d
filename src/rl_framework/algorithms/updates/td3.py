"""TD3: DDPG with two critics that are not believed easily."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rl_framework.algorithms.updates.deterministic import DeterministicActorCritic, DeterministicConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class TD3Config(DeterministicConfig):
    """Settings of TD3: see `DeterministicConfig`. As they are, those of the paper.

    mrl's variant is `online_target_actor=True` with `policy_objective="min"`, target_noise=0.1 and noise_clip=0.3.
    """

    kind: Any = "td3"
    policy_every: int = 2
    target_every: int = 2
    target_noise: float = 0.2

    def make(self) -> TD3:
        """The rule with these settings."""
        return TD3(self)


class TD3(DeterministicActorCritic):
    """Twin delayed deep deterministic policy gradients.

    Source: Fujimoto, van Hoof & Meger, Addressing Function Approximation Error in Actor-Critic Methods, 2018
    (https://arxiv.org/abs/1802.09477), algorithm 1.
    """

    config: TD3Config

    def __init__(self, config: TD3Config | None = None) -> None:
        super().__init__(config or TD3Config())
