"""The best choice, and now and then any."""

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
class EpsilonGreedyConfig(ExplorationConfig):
    """Settings of epsilon-greedy exploration.

    Attributes:
        initial: Probability of a random choice at the start.
        final: Probability from `decay_steps` on.
        decay_steps: Steps of environments, all of them counted, over which the one becomes the other in a straight
            line; 0 starts with the final one.
    """

    kind: Any = "epsilon_greedy"
    initial: float = 1.0
    final: float = 0.1
    decay_steps: int = 10_000

    def __post_init__(self) -> None:
        PartConfig.__post_init__(self)
        check_number("initial of epsilon-greedy exploration", self.initial, low=0.0, high=1.0)
        check_number("final of epsilon-greedy exploration", self.final, low=0.0, high=1.0)
        check_count("decay_steps of epsilon-greedy exploration", self.decay_steps, least=0)

    def make(self) -> EpsilonGreedy:
        """The part that is meant."""
        return EpsilonGreedy(self)


class EpsilonGreedy(Exploration):
    """The best choice, and a random one with a probability that falls over the steps; rows are drawn independently.

    Args:
        config: Settings.
    """

    action_kind: ClassVar[type[spaces.Discrete]] = spaces.Discrete

    def __init__(self, config: EpsilonGreedyConfig | None = None) -> None:
        self.config = config or EpsilonGreedyConfig()
        self._steps = 0

    @property
    def epsilon(self) -> float:
        """With what probability a choice is random now."""
        config = self.config
        return in_a_straight_line(config.initial, config.final, self._steps, config.decay_steps)

    def propose(self, actor: Actor, observations: Tree, generator: torch.Generator) -> Tensor:
        """The best choices. `[B]`"""
        return actor.act(observations, deterministic=True, generator=generator)

    def process(self, experience: Experience) -> None:
        """Count the steps of all environments."""
        self._steps += batch_size(experience.rewards)

    def state_dict(self) -> dict[str, Any]:
        """The number of steps so far."""
        return {"steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._steps = int(state["steps"])
