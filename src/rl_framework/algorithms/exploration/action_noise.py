"""Noise on continuous actions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from torch import Tensor

from rl_framework.algorithms.exploration.exploration import Actor, Exploration, ExplorationConfig
from rl_framework.algorithms.part_configs import PartConfig
from rl_framework.algorithms.parts import Experience
from rl_framework.algorithms.setting_ranges import check_number
from rl_framework.core.trees import Tree


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyRandomnessConfig(ExplorationConfig):
    """Settings of exploration by the randomness that the policy has of itself, such as that of SAC.

    Attributes:
        epsilon: Probability of a random action instead.
    """

    kind: Any = "policy"
    epsilon: float = 0.0

    def __post_init__(self) -> None:
        PartConfig.__post_init__(self)
        check_number("epsilon of an exploration", self.epsilon, low=0.0, high=1.0)

    def make(self) -> PolicyRandomness:
        """The part that is meant."""
        return PolicyRandomness(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class GaussianNoiseConfig(ExplorationConfig):
    """Settings of independent normal noise.

    Attributes:
        std: Standard deviation, in units of actions in [-1, 1].
        epsilon: Probability of a random action instead.
        varied: Whether environments differ: the first has no noise, the last that of `std`, those between them shares.
    """

    kind: Any = "gaussian"
    std: float = 0.1
    epsilon: float = 0.0
    varied: bool = False

    def __post_init__(self) -> None:
        PartConfig.__post_init__(self)
        check_number("std of Gaussian noise", self.std, low=0.0)
        check_number("epsilon of an exploration", self.epsilon, low=0.0, high=1.0)

    def make(self) -> GaussianNoise:
        """The part that is meant."""
        return GaussianNoise(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class OrnsteinUhlenbeckNoiseConfig(ExplorationConfig):
    """Settings of noise that hangs together over time and is pulled back to 0.

    Attributes:
        std: How much noise comes in, in units of actions in [-1, 1] and of the root of a unit of time.
        theta: How strongly it is pulled back.
        dt: Units of time of a step.
        epsilon: Probability of a random action instead.
        varied: Whether environments differ: the first has no noise, the last that of `std`, those between them shares.
    """

    kind: Any = "ornstein_uhlenbeck"
    std: float = 0.1
    theta: float = 0.15
    dt: float = 0.01
    epsilon: float = 0.0
    varied: bool = False

    def __post_init__(self) -> None:
        PartConfig.__post_init__(self)
        for name in ("std", "theta", "dt"):
            check_number(f"{name} of Ornstein-Uhlenbeck noise", getattr(self, name), low=0.0)
        check_number("epsilon of an exploration", self.epsilon, low=0.0, high=1.0)

    def make(self) -> OrnsteinUhlenbeckNoise:
        """The part that is meant."""
        return OrnsteinUhlenbeckNoise(self)


class PolicyRandomness(Exploration):
    """Actions as the policy draws them.

    Args:
        config: Settings.
    """

    def __init__(self, config: PolicyRandomnessConfig | None = None) -> None:
        self.config = config or PolicyRandomnessConfig()

    @property
    def epsilon(self) -> float:
        """With what probability an action is replaced by a random one."""
        return self.config.epsilon

    def propose(self, actor: Actor, observations: Tree, generator: torch.Generator) -> Tensor:
        """What the policy draws. `[B, A]` or `[B]`"""
        return actor.act(observations, deterministic=False, generator=generator)


class ActionNoise(Exploration):
    """Adds something random to actions, and brings them back to [-1, 1].

    Args:
        config: Settings.
    """

    action_kind: ClassVar[type[spaces.Box]] = spaces.Box

    def __init__(self, config: GaussianNoiseConfig | OrnsteinUhlenbeckNoiseConfig) -> None:
        self.config = config

    @property
    def epsilon(self) -> float:
        """With what probability an action is replaced by a random one."""
        return self.config.epsilon

    def propose(self, actor: Actor, observations: Tree, generator: torch.Generator) -> Tensor:
        """What the policy draws, with noise. `[B, A]`"""
        actions = actor.act(observations, deterministic=False, generator=generator)
        noise = self.draw(actions, generator)
        if self.config.varied and len(actions) > 1:
            noise = noise * torch.linspace(0.0, 1.0, len(actions), device=actions.device).unsqueeze(1)
        return (actions + noise).clamp_(-1.0, 1.0)

    def draw(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Noise for one step. `[B, A]`"""
        raise NotImplementedError


class GaussianNoise(ActionNoise):
    """Independent normal noise.

    Args:
        config: Settings.
    """

    def __init__(self, config: GaussianNoiseConfig | None = None) -> None:
        super().__init__(config or GaussianNoiseConfig())

    def draw(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Noise for one step. `[B, A]`"""
        return _normal(like, generator) * self.config.std


class OrnsteinUhlenbeckNoise(ActionNoise):
    """Noise of which each step's is close to that of the step before; it starts at 0 in each episode.

    Args:
        config: Settings.

    Source: Uhlenbeck & Ornstein, On the Theory of the Brownian Motion, 1930; as noise on actions Lillicrap et al.,
    Continuous Control with Deep Reinforcement Learning, 2016 (https://arxiv.org/abs/1509.02971), section 7.
    """

    def __init__(self, config: OrnsteinUhlenbeckNoiseConfig | None = None) -> None:
        self._of_process = config or OrnsteinUhlenbeckNoiseConfig()
        super().__init__(self._of_process)
        self._noise: Tensor | None = None

    def draw(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Noise for one step. `[B, A]`"""
        before = torch.zeros_like(like) if self._noise is None or self._noise.shape != like.shape else self._noise
        config = self._of_process
        drawn = _normal(like, generator) * (config.std * config.dt**0.5)
        self._noise = before * (1.0 - config.theta * config.dt) + drawn
        return self._noise

    def process(self, experience: Experience) -> None:
        """Start at 0 where an episode ended."""
        if self._noise is not None and len(self._noise) == len(experience.ended):
            self._noise = self._noise.masked_fill(experience.ended.unsqueeze(1), 0.0)

    def state_dict(self) -> dict[str, Any]:
        """The noise of the last step."""
        return {"noise": self._noise}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        noise = state["noise"]
        self._noise = None if noise is None else noise.to(self._device, copy=True)


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device)
