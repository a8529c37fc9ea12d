"""DDPG: an actor climbs a critic that learns from what both were a while ago."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rl_framework.algorithms.updates.deterministic import DeterministicActorCritic, DeterministicConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class DDPGConfig(DeterministicConfig):
    """Settings of DDPG: see `DeterministicConfig`.

    With `horizons` it is fixed-horizon DDPG, with several discount factors it learns about all of them, with many
    critics and the combination `random_ensemble` it is the random ensemble's.
    """

    kind: Any = "ddpg"
    n_critics: int = 1

    def make(self) -> DDPG:
        """The rule with these settings."""
        return DDPG(self)


class DDPG(DeterministicActorCritic):
    """Deep deterministic policy gradients.

    Source: Lillicrap et al., Continuous control with deep reinforcement learning, 2015
    (https://arxiv.org/abs/1509.02971); fixed horizons: De Asis et al., 2019 (https://arxiv.org/abs/1909.03906);
    several discount factors: Fedus et al., Hyperbolic Discounting and Learning over Multiple Horizons, 2019
    (https://arxiv.org/abs/1902.06865); random ensembles: Agarwal, Schuurmans & Norouzi, An Optimistic Perspective on
    Offline Reinforcement Learning, 2019 (https://arxiv.org/abs/1907.04543).
    """

    config: DDPGConfig

    def __init__(self, config: DDPGConfig | None = None) -> None:
        super().__init__(config or DDPGConfig())
