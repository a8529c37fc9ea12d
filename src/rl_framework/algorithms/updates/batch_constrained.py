"""Batch-constrained learning, for recordings: the best of some actions like those that were recorded is taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # torch's own convention

from rl_framework.algorithms.flat_optimizer import FlatAdam
from rl_framework.algorithms.parts import Workshop
from rl_framework.algorithms.updates.actor_critic import ActorCritic, ActorCriticConfig
from rl_framework.algorithms.updates.base import Learned
from rl_framework.algorithms.updates.building import make_optimizer
from rl_framework.algorithms.updates.repeating import repeated
from rl_framework.algorithms.updates.setting_checks import check_counts, check_numbers, check_shares
from rl_framework.core.trees import Tree
from rl_framework.data.replay_batch import ReplayBatch
from rl_framework.errors import InvalidInputError
from rl_framework.nn.action_generator import ActionGenerator, Perturbation
from rl_framework.nn.control_features import Prepared
from rl_framework.nn.recorded_passes import recorded_passes
from rl_framework.nn.target_network import TargetNetwork


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchConstrainedConfig(ActorCriticConfig):
    """Settings of batch-constrained Q-learning, besides those of `ActorCriticConfig`.

    Attributes:
        n_proposals: Actions among which the critics choose.
        perturbation: By how much the actor may move each number of a proposed action; 0 for not at all.
        min_weight: Weight of the critics' least value of the next state; their greatest has the rest.
        generator_learning_rate: Step size for what proposes actions.
    """

    kind: Any = "batch_constrained"
    n_proposals: int = 10
    perturbation: float = 0.05
    min_weight: float = 0.75
    generator_learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        ActorCriticConfig.__post_init__(self)
        check_counts(self, "n_proposals")
        check_numbers(self, from_zero=("perturbation",), positive=("generator_learning_rate",))
        check_shares(self, "min_weight")
        if self.combination != "min":
            raise InvalidInputError(
                f"BatchConstrainedConfig weighs the critics' least value against their greatest and takes "
                f"combination='min', got {self.combination!r}."
            )

    def make(self) -> BatchConstrained:
        """The rule with these settings."""
        return BatchConstrained(self)


class BatchConstrainedPolicy(nn.Module):
    """Takes the best of some proposals; the same ones each time.

    Args:
        rule: Whose networks these are.
        codes: From which actions are proposed. `[P, L]`
    """

    codes: Tensor

    def __init__(self, rule: BatchConstrained, codes: Tensor) -> None:
        super().__init__()
        self.generator, self.perturbation, self.critics = rule.action_generator, rule.actor, rule.critics
        self.head = rule.head
        self.register_buffer("codes", codes)

    def forward(self, observations: Tree | Prepared) -> Tensor:
        """Unit actions. `[N, ...]` per leaf to `[N, A]`"""
        prepared = self.generator.inputs.features.prepare(observations)
        return self.best(prepared, self.codes.repeat(prepared.numbers.shape[0], 1))

    def best(self, observations: Prepared, codes: Tensor) -> Tensor:
        """The proposal that the first critic likes best. `[N P, L]` to `[N, A]`"""
        n_proposals = len(self.codes)
        several = repeated(observations, n_proposals)
        proposals = self.perturbation(several, self.generator.decode(several, codes))
        values = self.head.acting(self.head.means(self.critics(several, proposals)))[0]
        return picked(proposals.unsqueeze(0), values.view(-1, n_proposals).argmax(1)).squeeze(0)


class BatchConstrained(ActorCritic):
    """Batch-constrained deep Q-learning.

    Attributes:
        action_generator: Proposes actions like those in the data.
        actor: Moves them a little.
        actor_target: What the actor was, on average over a while.

    Source: Fujimoto, Meger & Precup, Off-Policy Deep Reinforcement Learning without Exploration, 2018
    (https://arxiv.org/abs/1812.02900), algorithm 1.
    """

    config: BatchConstrainedConfig
    actor: Perturbation
    policy_network: BatchConstrainedPolicy

    def __init__(self, config: BatchConstrainedConfig | None = None) -> None:
        super().__init__(config or BatchConstrainedConfig())

    def build(self, workshop: Workshop) -> None:
        """Make the networks, with what proposes actions."""
        super().build(workshop)
        config, space = self.config, workshop.spec.action_space
        with workshop.initial_weights():
            self.action_generator = ActionGenerator(space, config.shape, self.features).to(workshop.device)
        self.generator_optimizer = make_optimizer(self.action_generator, config, config.generator_learning_rate)
        self.actor_target = TargetNetwork(self.actor)
        self.policy_network = BatchConstrainedPolicy(self, self._noise(config.n_proposals))

    def make_actor(self, workshop: Workshop) -> Perturbation:
        """What moves proposals, with initial weights."""
        space, shape = workshop.spec.action_space, self.config.shape
        return Perturbation(space, shape, self.features, largest=self.config.perturbation)

    def networks(self) -> dict[str, nn.Module]:
        """What acts, and what follows it."""
        return {
            "policy": self.policy_network,
            "critic_targets": self.critic_targets,
            "actor_target": self.actor_target,
        }

    def optimizers(self) -> dict[str, FlatAdam]:
        """Also that of what proposes."""
        return {**super().optimizers(), "generator": self.generator_optimizer}

    def followers(self) -> tuple[TargetNetwork[Any], ...]:
        """Those of critics and actor."""
        return self.critic_targets, self.actor_target

    def learn(self, batch: ReplayBatch, step: int, targets: Tensor | None = None) -> Learned:
        """What proposes, then critics and actor."""
        batch = self.prepared(batch)
        with recorded_passes():
            loss = self.generator_loss(batch)
            self.generator_optimizer.minimize(loss)
        return super().learn(batch, step, targets).beside({"train/generator_loss": loss.detach()})

    def generator_loss(self, batch: ReplayBatch) -> Tensor:
        """Squared error of actions that went through their codes, and half the codes' distance to normal ones. `[]`"""
        noise = self._noise(len(batch.actions))
        again, mean, log_std = self.action_generator(batch.observations, batch.actions, noise)
        divergence = -0.5 * (1.0 + 2.0 * log_std - mean.square() - (2.0 * log_std).exp()).mean()
        loss: Tensor = F.mse_loss(again, batch.actions) + 0.5 * divergence
        return loss

    def next_actions(self, batch: ReplayBatch) -> tuple[Tensor, None]:
        """The best of the target actor's moves of several proposals."""
        several, proposals = self._proposals(batch.next_observations)
        values = self._blended(self.critic_targets(several, proposals))
        scores = self.head.acting(values.mean(-1)).view(-1, self.config.n_proposals)
        return picked(proposals.unsqueeze(0), scores.argmax(1)).squeeze(0), None

    def following(self, outputs: Tensor, weights: Tensor | None) -> Tensor:
        """Least and greatest value of the next state, weighed. `[E, N, K]` to `[N, V, A]`"""
        del weights
        return self._blended(outputs)

    def actor_loss(self, batch: ReplayBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Minus the value of a moved proposal."""
        with torch.no_grad():
            proposals = self.action_generator.decode(batch.observations, self._noise(len(batch.actions)))
        actions = self.actor(batch.observations, proposals)
        loss = -self.actor_values(batch.observations, actions).mean()
        return loss + self.config.action_l2 * actions.square().mean(), {}

    @torch.no_grad()
    def act(self, observations: Tree, *, deterministic: bool, generator: torch.Generator | None = None) -> Tensor:
        """The best of proposals that are drawn, or of those that are always the same. `[N, A]`"""
        prepared = self.features.prepare(observations)
        if deterministic:
            best: Tensor = self.policy_network(prepared)
            return best
        n_codes = len(prepared.numbers) * self.config.n_proposals
        codes = torch.randn(n_codes, self.action_generator.n_codes, generator=generator, device=prepared.numbers.device)
        return self.policy_network.best(prepared, codes)

    def _proposals(self, observations: Prepared) -> tuple[Prepared, Tensor]:
        """Observations several times over, and for each a proposal that the target actor has moved. `[N P, A]`"""
        several = repeated(observations, self.config.n_proposals)
        codes = self._noise(len(several.numbers))
        return several, self.actor_target(several, self.action_generator.decode(several, codes))

    def _blended(self, outputs: Tensor) -> Tensor:
        """Least and greatest value, weighed. `[E, M, K]` to `[M, V, A]`"""
        least, greatest = self.head.samples(outputs, None), -self.head.samples(-outputs, None)
        return torch.lerp(greatest, least, self.config.min_weight)

    def _noise(self, n: int) -> Tensor:
        """Codes at random. `[n, L]`"""
        n_codes = self.action_generator.n_codes
        return torch.randn(n, n_codes, generator=self.generator, device=self.generator.device)


def picked(values: Tensor, index: Tensor) -> Tensor:
    """One of several rows for each transition.

    Args:
        values: `[E, N P, K]`
        index: `[N]`

    Returns:
        `[E, N, K]`
    """
    several = values.reshape(values.shape[0], index.shape[0], -1, values.shape[-1])
    return several.gather(2, index.view(1, -1, 1, 1).expand(values.shape[0], -1, 1, values.shape[-1])).squeeze(2)
