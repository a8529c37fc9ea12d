"""Noise on continuous actions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from torch import Tensor

from rl_framework.algorithms.exploration.exploration import Actor, Exploration, ExplorationConfig, in_a_straight_line
from rl_framework.algorithms.part_configs import PartConfig
from rl_framework.algorithms.parts import Experience
from rl_framework.algorithms.setting_ranges import check_count, check_number
from rl_framework.core.trees import Tree, batch_size


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
class ActionNoiseConfig(ExplorationConfig):
    """What settings of all kinds of noise share.

    Attributes:
        std: How much noise there is at the start, in units of actions in [-1, 1]: for independent noise its standard
            deviation, otherwise that of what comes in within a unit of time.
        final_std: The same from `decay_steps` on; None for `std`.
        decay_steps: Steps of environments, all of them counted, over which the one becomes the other in a straight
            line; 0 starts with the final one.
        epsilon: Probability of a random action instead.
        varied: Whether environments differ: the first has no noise, the last all of it, those between them shares.
    """

    std: float = 0.1
    final_std: float | None = None
    decay_steps: int = 100_000
    epsilon: float = 0.0
    varied: bool = False

    def __post_init__(self) -> None:
        PartConfig.__post_init__(self)
        check_number("std of noise", self.std, low=0.0)
        if self.final_std is not None:
            check_number("final_std of noise", self.final_std, low=0.0)
        check_count("decay_steps of noise", self.decay_steps, least=0)
        check_number("epsilon of an exploration", self.epsilon, low=0.0, high=1.0)

    def std_after(self, n_steps: int) -> float:
        """How much noise there is after so many steps of environments."""
        if self.final_std is None:
            return self.std
        return in_a_straight_line(self.std, self.final_std, n_steps, self.decay_steps)


@dataclass(frozen=True, kw_only=True, slots=True)
class GaussianNoiseConfig(ActionNoiseConfig):
    """Settings of independent normal noise: those of `ActionNoiseConfig`."""

    kind: Any = "gaussian"

    def make(self) -> GaussianNoise:
        """The part that is meant."""
        return GaussianNoise(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class OrnsteinUhlenbeckNoiseConfig(ActionNoiseConfig):
    """Settings of noise that hangs together over time and is pulled back to 0, besides those of `ActionNoiseConfig`.

    Attributes:
        theta: How strongly it is pulled back.
        dt: Units of time of a step.
    """

    kind: Any = "ornstein_uhlenbeck"
    theta: float = 0.15
    dt: float = 0.01

    def __post_init__(self) -> None:
        ActionNoiseConfig.__post_init__(self)
        for name in ("theta", "dt"):
            check_number(f"{name} of Ornstein-Uhlenbeck noise", getattr(self, name), low=0.0)

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

    def __init__(self, config: ActionNoiseConfig) -> None:
        self.config = config
        self._steps = 0

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

    @property
    def std(self) -> float:
        """How much noise there is now."""
        return self.config.std_after(self._steps)

    def draw(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Noise for one step. `[B, A]`"""
        raise NotImplementedError

    def process(self, experience: Experience) -> None:
        """Count the steps of all environments."""
        self._steps += batch_size(experience.rewards)

    def state_dict(self) -> dict[str, Any]:
        """The number of steps so far."""
        return {"steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._steps = int(state["steps"])


class GaussianNoise(ActionNoise):
    """Independent normal noise.

    Args:
        config: Settings.
    """

    def __init__(self, config: GaussianNoiseConfig | None = None) -> None:
        super().__init__(config or GaussianNoiseConfig())

    def draw(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Noise for one step. `[B, A]`"""
        return _normal(like, generator) * self.std


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
        drawn = _normal(like, generator) * (self.std * config.dt**0.5)
        self._noise = before * (1.0 - config.theta * config.dt) + drawn
        return self._noise

    def begin(self, observations: Tree) -> None:
        """Start at 0 everywhere."""
        del observations
        self._noise = None

    def process(self, experience: Experience) -> None:
        """Start at 0 where an episode ended."""
        super().process(experience)
        if self._noise is not None and len(self._noise) == len(experience.ended):
            self._noise = self._noise.masked_fill(experience.ended.unsqueeze(1), 0.0)

    def state_dict(self) -> dict[str, Any]:
        """Also the noise of the last step."""
        return {**super().state_dict(), "noise": self._noise}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        super().load_state_dict(state)
        noise = state["noise"]
        self._noise = None if noise is None else noise.to(self._device, copy=True)


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device)
