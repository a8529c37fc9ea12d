"""SAC: an actor that draws its actions is paid for being unpredictable."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rl_framework.algorithms.flat_optimizer import AdamSettings, FlatAdam
from rl_framework.algorithms.parts import Workshop
from rl_framework.algorithms.setting_ranges import check_number
from rl_framework.algorithms.updates.actor_critic import ActorCritic, ActorCriticConfig
from rl_framework.algorithms.updates.setting_checks import check_numbers
from rl_framework.core.trees import Tree
from rl_framework.data.replay_batch import ReplayBatch
from rl_framework.nn.flat_parameters import flatten_parameters
from rl_framework.nn.squashed_actor import SquashedActor
from rl_framework.nn.unit_actions import UnitActions


@dataclass(frozen=True, kw_only=True, slots=True)
class SACConfig(ActorCriticConfig):
    """Settings of SAC, besides those of `ActorCriticConfig`.

    Entropies are those of actions in [-1, 1], in nats.

    Attributes:
        entropy_coefficient: What one nat of entropy is worth, the temperature; None to learn it.
        initial_entropy_coefficient: Where it begins if it is learned.
        entropy_learning_rate: Step size for its logarithm.
        target_entropy: The entropy that a learned temperature keeps up; None for minus the number of action numbers.
        backup_entropy: Whether critics count the entropy of what follows as worth something, too.
    """

    kind: Any = "sac"
    learning_rate: float = 3e-4
    actor_learning_rate: float = 3e-4
    entropy_coefficient: float | None = None
    initial_entropy_coefficient: float = 1.0
    entropy_learning_rate: float = 3e-4
    target_entropy: float | None = None
    backup_entropy: bool = True

    def __post_init__(self) -> None:
        ActorCriticConfig.__post_init__(self)
        check_numbers(self, positive=("initial_entropy_coefficient", "entropy_learning_rate"))
        if self.entropy_coefficient is not None:
            check_numbers(self, from_zero=("entropy_coefficient",))
        if self.target_entropy is not None:
            check_number(f"target_entropy of {type(self).__name__}", self.target_entropy)

    @property
    def own_objective(self) -> str:
        """The least of what the critics say."""
        return "min"

    def make(self) -> SAC:
        """The rule with these settings."""
        return SAC(self)


class Temperature(nn.Module):
    """What one nat of entropy is worth, learned as its logarithm.

    Args:
        first: Where it begins, above 0.
    """

    def __init__(self, first: float) -> None:
        super().__init__()
        self.logarithm = nn.Parameter(torch.full((), math.log(first)))

    def forward(self) -> Tensor:
        """The temperature, without gradients. `[]`"""
        return self.logarithm.detach().exp()


class SAC(ActorCritic):
    """Soft actor-critic.

    Where rewards are summed up over several steps, the entropy of the steps between is not paid for.

    Attributes:
        temperature: What is learned of the price of entropy; None where it is fixed.
        target_entropy: The entropy that it keeps up.

    Source: Haarnoja et al., Soft Actor-Critic: Off-Policy Maximum Entropy Deep Reinforcement Learning with a
    Stochastic Actor, 2018 (https://arxiv.org/abs/1801.01290); the temperature: Haarnoja et al., Soft Actor-Critic
    Algorithms and Applications, 2018 (https://arxiv.org/abs/1812.05905), section 5.
    """

    config: SACConfig
    actor: SquashedActor
    temperature: Temperature | None = None
    target_entropy: float

    def __init__(self, config: SACConfig | None = None) -> None:
        super().__init__(config or SACConfig())

    def build(self, workshop: Workshop) -> None:
        """Make the networks, and the temperature if it is learned."""
        super().build(workshop)
        config, width = self.config, UnitActions(workshop.spec.action_space).width
        self.target_entropy = -float(width) if config.target_entropy is None else config.target_entropy
        if config.entropy_coefficient is None:
            self.temperature = Temperature(config.initial_entropy_coefficient).to(workshop.device)
            settings = AdamSettings(learning_rate=config.entropy_learning_rate)
            self.temperature_optimizer = FlatAdam(flatten_parameters(self.temperature), settings)

    def make_actor(self, workshop: Workshop) -> SquashedActor:
        """The actor, with initial weights."""
        return SquashedActor(workshop.spec.action_space, self.config.shape, self.features)

    @property
    def entropy_coefficient(self) -> Tensor | float:
        """What one nat of entropy is worth now. `[]`, without gradients"""
        return float(self.config.entropy_coefficient or 0.0) if self.temperature is None else self.temperature()

    def next_actions(self, batch: ReplayBatch) -> tuple[Tensor, Tensor | None]:
        """What the actor draws, and the price of its having been likely."""
        actions, log_prob = self.actor.sample(batch.next_observations, self.generator)
        return actions, self.entropy_coefficient * log_prob if self.config.backup_entropy else None

    def actor_loss(self, batch: ReplayBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The price of likely actions, less their value."""
        actions, log_prob = self.actor.sample(batch.observations, self.generator)
        values = self.actor_values(batch.observations, actions)
        loss = (self.entropy_coefficient * log_prob - values).mean()
        if self.config.action_l2:
            loss = loss + self.config.action_l2 * actions.square().mean()
        return loss, {"train/entropy": -log_prob.detach().mean()}

    def after_actor(self, metrics: dict[str, Tensor]) -> dict[str, Tensor]:
        """One gradient step of the temperature: up where the entropy is below its target."""
        if self.temperature is None:
            return {}
        missing = self.target_entropy - metrics["train/entropy"]
        self.temperature_optimizer.follow(self.temperature.logarithm, -missing)
        return {"train/entropy_coefficient": self.temperature()}

    def networks(self) -> dict[str, nn.Module]:
        """Also the temperature, if it is learned."""
        found = super().networks()
        return found if self.temperature is None else {**found, "temperature": self.temperature}

    def optimizers(self) -> dict[str, FlatAdam]:
        """Also that of the temperature, if it is learned."""
        found = super().optimizers()
        return found if self.temperature is None else {**found, "temperature": self.temperature_optimizer}

    @torch.no_grad()
    def act(self, observations: Tree, *, deterministic: bool, generator: torch.Generator | None = None) -> Tensor:
        """Actions that are drawn, or those of the means. `[N, A]`"""
        if deterministic:
            return self.actor.mode(observations)
        return self.actor.sample(observations, generator)[0]
