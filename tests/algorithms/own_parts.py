"""Parts of an off-policy learner as users write them, for tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rl_framework.algorithms.exploration.action_noise import GaussianNoise, GaussianNoiseConfig
from rl_framework.algorithms.off_policy_config import ExtraPartConfig
from rl_framework.algorithms.part_configs import PartConfig
from rl_framework.algorithms.parts import Experience, Metrics, Part
from rl_framework.algorithms.replay_config import SelectionConfig
from rl_framework.algorithms.updates.ddpg import DDPG, DDPGConfig
from rl_framework.core.trees import Tree
from rl_framework.data.replay_batch import ReplayBatch
from rl_framework.data.replay_buffer import ReplayBuffer
from rl_framework.data.sampling.selection import Selected
from rl_framework.data.sampling.uniform import UniformSelection


@dataclass(frozen=True, kw_only=True, slots=True)
class ScaledRewardsConfig(DDPGConfig):
    """Settings of DDPG that learns from multiples of rewards."""

    kind: Any = None
    scale: float = 1.0

    def make(self) -> ScaledRewards:
        return ScaledRewards(self)


class ScaledRewards(DDPG):
    """DDPG that learns from multiples of rewards."""

    config: ScaledRewardsConfig

    def prepared(self, batch: ReplayBatch) -> ReplayBatch:
        batch.rewards.mul_(self.config.scale)
        return super().prepared(batch)


@dataclass(frozen=True, kw_only=True, slots=True)
class LatestConfig(SelectionConfig):
    """Settings of learning from the latest transitions only."""

    n_latest: int = 5

    def make(self, buffer: ReplayBuffer) -> Latest:
        return Latest(buffer, self.n_latest)


class Latest(UniformSelection):
    """Draws from the latest transitions only."""

    def __init__(self, replay: ReplayBuffer, n_latest: int) -> None:
        super().__init__(replay)
        self._n_latest = n_latest

    def select(self, n: int, generator: torch.Generator) -> Selected:
        back = torch.randint(self._n_latest, (n,), generator=generator)
        return Selected(rows=(self._replay.added - 1 - back) % self._replay.capacity)


@dataclass(frozen=True, kw_only=True, slots=True)
class HalvedNoiseConfig(GaussianNoiseConfig):
    """Settings of noise that is half as large."""

    kind: Any = None

    def make(self) -> HalvedNoise:
        return HalvedNoise(self)


class HalvedNoise(GaussianNoise):
    """Noise that is half as large."""

    def draw(self, like: Tensor, generator: torch.Generator) -> Tensor:
        return 0.5 * super().draw(like, generator)


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodeCountConfig(ExtraPartConfig):
    """Settings of the count of episodes."""

    first: int = 0

    def __post_init__(self) -> None:
        PartConfig.__post_init__(self)

    def make(self) -> EpisodeCount:
        return EpisodeCount(self)


class EpisodeCount(Part):
    """Counts episodes that end, and runs that begin."""

    def __init__(self, config: EpisodeCountConfig) -> None:
        self.n_ended, self.n_begun = config.first, 0

    def begin(self, observations: Tree) -> None:
        del observations
        self.n_begun += 1

    def process(self, experience: Experience) -> None:
        self.n_ended += int(experience.ended.sum())

    def optimize(self, step: int) -> Metrics:
        del step
        return {"own/episodes": float(self.n_ended)}

    def state_dict(self) -> dict[str, Any]:
        return {"n_ended": self.n_ended, "n_begun": self.n_begun}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.n_ended, self.n_begun = state["n_ended"], state["n_begun"]
