"""Rules whose actor says what to do, without chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # torch's own convention

from rl_framework.algorithms.parts import Workshop
from rl_framework.algorithms.updates.actor_critic import ActorCritic, ActorCriticConfig
from rl_framework.algorithms.updates.setting_checks import check_numbers
from rl_framework.core.trees import Tree
from rl_framework.data.replay_batch import ReplayBatch
from rl_framework.functional.off_policy_losses import smoothed_actions
from rl_framework.nn.deterministic_actor import DeterministicActor
from rl_framework.nn.target_network import TargetNetwork


@dataclass(frozen=True, kw_only=True, slots=True)
class DeterministicConfig(ActorCriticConfig):
    """What rules with a deterministic actor share, besides the settings of `ActorCriticConfig`.

    Noise is in units of actions in [-1, 1].

    Attributes:
        target_noise: Standard deviation of the noise on actions in the next state, which smooths the critics.
        policy_noise: Standard deviation of the noise on the actor's actions while it learns.
        noise_clip: Greatest magnitude of either.
        online_target_actor: Whether the actor itself, in place of its target network, acts in the next state.
        cloning_weight: Weight of the mean squared distance to the actions of the data in the actor's loss.
    """

    target_noise: float = 0.0
    policy_noise: float = 0.0
    noise_clip: float = 0.5
    online_target_actor: bool = False
    cloning_weight: float = 0.0

    def __post_init__(self) -> None:
        ActorCriticConfig.__post_init__(self)
        check_numbers(self, from_zero=("target_noise", "policy_noise", "cloning_weight"), positive=("noise_clip",))


class DeterministicActorCritic(ActorCritic):
    """An actor that climbs the critics.

    Attributes:
        actor_target: What the actor was, on average over a while.
    """

    config: DeterministicConfig
    actor: DeterministicActor
    actor_target: TargetNetwork[DeterministicActor]

    def build(self, workshop: Workshop) -> None:
        """Make the networks, with a target for the actor."""
        super().build(workshop)
        self.actor_target = TargetNetwork(self.actor)

    def make_actor(self, workshop: Workshop) -> DeterministicActor:
        """The actor, with initial weights."""
        return DeterministicActor(workshop.spec.action_space, self.config.shape, self.features)

    def networks(self) -> dict[str, nn.Module]:
        """Also the actor's target."""
        return {**super().networks(), "actor_target": self.actor_target}

    @property
    def has_steady_targets(self) -> bool:
        """Whether target networks alone say what to do in the next state, and what it is worth."""
        return not self.config.online_target_actor and self.config.combination != "random_ensemble"

    def followers(self) -> tuple[TargetNetwork[Any], ...]:
        """Targets of the critics and, where it is of use, of the actor."""
        return (self.critic_targets,) if self.config.online_target_actor else (self.critic_targets, self.actor_target)

    def next_actions(self, batch: ReplayBatch) -> tuple[Tensor, None]:
        """The target actor's, smoothed."""
        actor = self.actor if self.config.online_target_actor else self.actor_target
        return self.smoothed(actor(batch.next_observations), self.config.target_noise), None

    def actor_loss(self, batch: ReplayBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Minus the critics' value, and the prices of large actions and of distance to the data."""
        actions = self.actor(batch.observations)
        values = self.actor_values(batch.observations, self.smoothed(actions, self.config.policy_noise))
        return self.weighed(-values.mean(), actions, batch), {}

    def weighed(self, loss: Tensor, actions: Tensor, batch: ReplayBatch) -> Tensor:
        """A loss with what actions cost beside it. `[]`"""
        if self.config.action_l2:
            loss = loss + self.config.action_l2 * actions.square().mean()
        if self.config.cloning_weight:
            loss = loss + self.config.cloning_weight * F.mse_loss(actions, batch.actions)
        return loss

    def smoothed(self, actions: Tensor, std: float) -> Tensor:
        """Actions with clipped noise. `[N, A]`"""
        if not std:
            return actions
        return smoothed_actions(actions, std=std, clip=self.config.noise_clip, generator=self.generator)

    @torch.no_grad()
    def act(self, observations: Tree, *, deterministic: bool, generator: torch.Generator | None = None) -> Tensor:
        """The actor's actions, in either case."""
        del deterministic, generator
        actions: Tensor = self.actor(observations)
        return actions
