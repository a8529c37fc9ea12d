"""What rules share whose actor learns from critics: actions are numbers in [-1, 1]."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_framework.algorithms.flat_optimizer import FlatAdam
from rl_framework.algorithms.parts import Workshop
from rl_framework.algorithms.updates.base import Learned, RuleConfig
from rl_framework.algorithms.updates.blocks import BlockRule
from rl_framework.algorithms.updates.building import make_optimizer
from rl_framework.algorithms.updates.critic_heads import CriticHead, critic_report, make_critic_head
from rl_framework.algorithms.updates.setting_checks import check_choice, check_counts, check_numbers
from rl_framework.core.trees import Tree
from rl_framework.data.replay_batch import ReplayBatch
from rl_framework.errors import SpaceError
from rl_framework.nn.critics import Critics
from rl_framework.nn.recorded_passes import recorded_passes
from rl_framework.nn.target_network import TargetNetwork

OBJECTIVES = ("first", "min", "mean")


@dataclass(frozen=True, kw_only=True, slots=True)
class ActorCriticConfig(RuleConfig):
    """What rules with an actor share, besides the settings of `RuleConfig`.

    Attributes:
        actor_learning_rate: Step size for the actor.
        actor_weight_decay: Weight of half the actor's squared parameters in its loss.
        action_l2: Weight of the mean squared action in the actor's loss.
        policy_every: The actor learns in every so many updates.
        policy_objective: What the actor makes large: the value that the `first` critic gives its actions, the `min` of
            what all give, or their `mean`; None for the rule's own way, which is the mean where the critics'
            combination is not `min`.
    """

    actor_learning_rate: float = 1e-3
    actor_weight_decay: float = 0.0
    action_l2: float = 0.0
    policy_every: int = 1
    policy_objective: str | None = None

    def __post_init__(self) -> None:
        RuleConfig.__post_init__(self)
        check_numbers(self, positive=("actor_learning_rate",), from_zero=("actor_weight_decay", "action_l2"))
        check_counts(self, "policy_every")
        if self.policy_objective is not None:
            check_choice(self, "policy_objective", OBJECTIVES)

    def check_space(self, action_space: gym.Space[Any]) -> None:
        """Refuse actions that are not numbers within bounds."""
        if not isinstance(action_space, spaces.Box):
            raise SpaceError(
                f"The rule {self.kind!r} learns actions that are numbers, a Box, got {action_space}; take rule='dqn' "
                f"for choices."
            )

    @property
    def own_objective(self) -> str:
        """What the actor makes large if nothing else is said, with critics whose combination is `min`."""
        return "first"

    @property
    def objective(self) -> str:
        """What the actor makes large."""
        if self.policy_objective is not None:
            return self.policy_objective
        return self.own_objective if self.combination == "min" else "mean"


class ActorCritic(BlockRule):
    """Critics learn what actions are worth, and an actor learns to take good ones.

    A subclass says how actions are chosen in the next state, and what the actor minimises.

    Attributes:
        actor: Chooses actions.
        critics: Value actions.
        critic_targets: What the critics were, on average over a while.
        head: Reads what critics say.
    """

    config: ActorCriticConfig
    actor: nn.Module
    critics: Critics
    critic_targets: TargetNetwork[Critics]
    head: CriticHead

    def build(self, workshop: Workshop) -> None:
        """Make actor, critics, their targets and optimisers."""
        config, spec = self.config, workshop.spec
        self.generator = workshop.generator
        self.head = make_critic_head(config, workshop.gammas)
        with workshop.initial_weights():
            self.features = config.make_features(spec.observation_space).to(workshop.device)
            self.actor = self.make_actor(workshop).to(workshop.device)
            self.critics = Critics(
                spec.action_space,
                config.shape,
                self.features,
                n_members=config.n_critics,
                n_outputs=self.head.n_outputs,
            ).to(workshop.device)
        self.policy_network = self.actor
        self.critic_targets = TargetNetwork(self.critics)
        self.actor_optimizer = make_optimizer(self.actor, config, config.actor_learning_rate, config.actor_weight_decay)
        self.critic_optimizer = make_optimizer(self.critics, config, config.learning_rate, config.weight_decay)

    @abstractmethod
    def make_actor(self, workshop: Workshop) -> nn.Module:
        """The actor, with initial weights."""

    @abstractmethod
    def next_actions(self, batch: ReplayBatch) -> tuple[Tensor, Tensor | None]:
        """Actions in the next states, and what they cost beside what follows from them; without gradients.

        Returns:
            Actions `[N, A]`, and costs `[N]` or None.
        """

    @abstractmethod
    def actor_loss(self, batch: ReplayBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """What the actor minimises, `[]`, and numbers to report."""

    def critic_penalty(self, batch: ReplayBatch, outputs: Tensor) -> Tensor | None:  # noqa: ARG002  (for subclasses)
        """What is added to the critics' loss, None for nothing.

        Args:
            batch: The transitions.
            outputs: What critics say of their actions. `[E, N, K]`

        Returns:
            `[]`
        """
        return None

    def after_actor(self, metrics: dict[str, Tensor]) -> dict[str, Tensor]:  # noqa: ARG002  (for subclasses)
        """What else is learned once the actor has learned; numbers to report.

        Args:
            metrics: Those of `actor_loss`.
        """
        return {}

    @property
    def period(self) -> int:
        """See `UpdateRule.period`."""
        return math.lcm(self.config.policy_every, self.config.target_every)

    def followers(self) -> tuple[TargetNetwork[Any], ...]:
        """The target networks."""
        return (self.critic_targets,)

    def networks(self) -> dict[str, nn.Module]:
        """Actor, critics, and what follows them."""
        return {"actor": self.actor, "critics": self.critics, "critic_targets": self.critic_targets}

    def optimizers(self) -> dict[str, FlatAdam]:
        """One for the actor, one for the critics."""
        return {"actor": self.actor_optimizer, "critics": self.critic_optimizer}

    def learn(self, batch: ReplayBatch, step: int, targets: Tensor | None = None) -> Learned:
        """Critics, actor, and what follows them, in this order."""
        batch = self.prepared(batch)
        with recorded_passes():
            learned = self.learn_critics(batch, targets)
            if step % self.config.policy_every == 0:
                learned = learned.beside(self.learn_actor(batch))
        if step % self.config.target_every == 0:
            for follower in self.followers():
                follower.update(self.config.target_share)
        return learned

    def learn_critics(self, batch: ReplayBatch, targets: Tensor | None = None) -> Learned:
        """One gradient step of the critics."""
        weights = self.head.draw_weights(self.generator, batch.rewards.device)
        if targets is None:
            targets = self.targets(batch, weights)
        outputs = self.critics(batch.observations, batch.actions)
        found = self.head.descent(outputs.detach(), targets, weights, batch.weights)
        penalty = self.critic_penalty(batch, outputs)
        self.critic_optimizer.follow(outputs, found.gradient, penalty)
        learned = critic_report(self.head, found, outputs.detach())
        return learned if penalty is None else learned.beside({"train/critic_penalty": penalty.detach()})

    @torch.no_grad()
    def targets(self, batch: ReplayBatch, weights: Tensor | None) -> Tensor:
        """See `BlockRule.targets`."""
        actions, cost = self.next_actions(batch)
        following = self.following(self.critic_targets(batch.next_observations, actions), weights)
        return self.head.targets(batch, following, cost)

    def following(self, outputs: Tensor, weights: Tensor | None) -> Tensor:
        """What the target critics say together of the next state.

        Args:
            outputs: `[E, N, K]`
            weights: Of the members of a random ensemble. `[E]`

        Returns:
            `[N, V, A]`
        """
        return self.head.samples(outputs, weights)

    def learn_actor(self, batch: ReplayBatch) -> dict[str, Tensor]:
        """One gradient step of the actor, and of what hangs on it."""
        loss, metrics = self.actor_loss(batch)
        self.actor_optimizer.minimize(loss)
        return {"train/actor_loss": loss.detach(), **metrics, **self.after_actor(metrics)}

    def actor_values(self, observations: Tree, actions: Tensor) -> Tensor:
        """What the actor makes large, with gradients by the actions only. `[N]`

        Args:
            observations: `[N, ...]` per leaf
            actions: `[N, A]`
        """
        objective = self.config.objective
        outputs = self.critics.judge(observations, actions, members=1 if objective == "first" else None)
        values = self.head.acting(self.head.means(outputs))
        if len(values) == 1:
            return values[0]
        return values.amin(0) if objective == "min" else values.mean(0)

    @torch.no_grad()
    def values(self, observations: Tree, actions: Tensor | None = None) -> Tensor:
        """See `UpdateRule.values`. `[N]`"""
        observations = self.features.prepare(observations)
        if actions is None:
            actions = self.act(observations, deterministic=True)
        return self.head.acting(self.head.means(self.critics(observations, actions))).amin(0)
