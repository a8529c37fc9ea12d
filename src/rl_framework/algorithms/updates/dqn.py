"""DQN: values of all choices are learned, and the best one is taken."""

from __future__ import annotations

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
from rl_framework.core.trees import Tree
from rl_framework.data.replay_batch import ReplayBatch
from rl_framework.errors import SpaceError
from rl_framework.nn.action_values import ActionValues
from rl_framework.nn.recorded_passes import recorded_passes
from rl_framework.nn.target_network import TargetNetwork


@dataclass(frozen=True, kw_only=True, slots=True)
class DQNConfig(RuleConfig):
    """Settings of DQN, besides those of `RuleConfig`.

    Attributes:
        double: Whether the network itself, in place of its target, says which choice is best in the next state.
        dueling: Whether networks tell the value of a state from what choices add to it.
    """

    kind: Any = "dqn"
    n_critics: int = 1
    double: bool = False
    dueling: bool = False

    def make(self) -> DQN:
        """The rule with these settings."""
        return DQN(self)

    def check_space(self, action_space: gym.Space[Any]) -> None:
        """Refuse actions that are not choices."""
        if not isinstance(action_space, spaces.Discrete):
            raise SpaceError(
                f"The rule {self.kind!r} learns choices, a Discrete, got {action_space}; take rule='sac', 'td3' or "
                f"'ddpg' for actions that are numbers."
            )


class DQN(BlockRule):
    """Q-learning with a network and a slower copy of it.

    The best choice is that of the value that is acted on. Values for other discount factors or horizons are those of
    making this choice.

    Attributes:
        critics: Value all choices.
        critic_targets: What they were, on average over a while.
        head: Reads what they say.

    Source: Mnih et al., Human-level control through deep reinforcement learning, Nature 518, 2015; double: van Hasselt,
    Guez & Silver, 2015 (https://arxiv.org/abs/1509.06461); dueling: Wang et al., 2015
    (https://arxiv.org/abs/1511.06581); quantiles: Dabney et al., 2017 (https://arxiv.org/abs/1710.10044).
    """

    config: DQNConfig

    def __init__(self, config: DQNConfig | None = None) -> None:
        super().__init__(config or DQNConfig())

    def build(self, workshop: Workshop) -> None:
        """Make the networks and their optimiser."""
        config, spec = self.config, workshop.spec
        self.generator = workshop.generator
        self.head: CriticHead = make_critic_head(config, workshop.gammas)
        self.features = config.make_features(spec.observation_space)
        with workshop.initial_weights():
            self.critics = ActionValues(
                spec.action_space,
                config.shape,
                self.features,
                n_members=config.n_critics,
                n_outputs=self.head.n_outputs,
                dueling=config.dueling,
            ).to(workshop.device)
        self._greatest_are_followed = not config.double and config.critic == "expected" and self.head.n_values == 1
        self.policy_network = self.critics
        self.critic_targets = TargetNetwork(self.critics)
        self.critic_optimizer = make_optimizer(self.critics, config, config.learning_rate, config.weight_decay)

    @property
    def has_steady_targets(self) -> bool:
        """Whether the target network alone says what choices are worth."""
        return not self.config.double and self.config.combination != "random_ensemble"

    def learn(self, batch: ReplayBatch, step: int, targets: Tensor | None = None) -> Learned:
        """The networks, and what follows them."""
        weights = self.head.draw_weights(self.generator, batch.rewards.device)
        if targets is None:
            targets = self.targets(batch, weights)
        with recorded_passes():
            outputs = self.critics(batch.observations)
            said = of_choices(outputs.detach(), batch.actions)
            found = self.head.descent(said, targets, weights, batch.weights)
            self.critic_optimizer.follow(outputs, to_choices(found.gradient, batch.actions, outputs))
        if step % self.config.target_every == 0:
            self.critic_targets.update(self.config.target_share)
        return critic_report(self.head, found, said)

    @torch.no_grad()
    def targets(self, batch: ReplayBatch, weights: Tensor | None) -> Tensor:
        """See `BlockRule.targets`."""
        observations = self.features.prepare(batch.next_observations)
        following = self.critic_targets(observations)
        known = self.critics(observations) if self.config.double else following
        scores = self.choice_values(known, weights)
        if self._greatest_are_followed:
            return self.head.targets(batch, scores.amax(1).view(-1, 1, 1))
        return self.head.targets(batch, self.head.samples(of_choices(following, scores.argmax(1)), weights))

    def choice_values(self, outputs: Tensor, weights: Tensor | None = None) -> Tensor:
        """What each choice is worth to all members together. `[E, N, n, K]` to `[N, n]`"""
        return self.head.combined(self.head.acting(self.head.means(outputs)), weights)

    def networks(self) -> dict[str, nn.Module]:
        """The networks, and what follows them."""
        return {"critics": self.critics, "critic_targets": self.critic_targets}

    def optimizers(self) -> dict[str, FlatAdam]:
        """One."""
        return {"critics": self.critic_optimizer}

    @torch.no_grad()
    def act(self, observations: Tree, *, deterministic: bool, generator: torch.Generator | None = None) -> Tensor:
        """The best choices, in either case. `[N]`"""
        del deterministic, generator
        return self.choice_values(self.critics(observations)).argmax(1)

    @torch.no_grad()
    def values(self, observations: Tree, actions: Tensor | None = None) -> Tensor:
        """See `UpdateRule.values`. `[N]`"""
        outputs = self.critics(observations)
        if actions is None:
            actions = self.choice_values(outputs).argmax(1)
        return self.head.acting(self.head.means(of_choices(outputs, actions))).amin(0)


def of_choices(outputs: Tensor, choices: Tensor) -> Tensor:
    """What is said of one choice per row.

    Args:
        outputs: `[E, N, n, K]`
        choices: `[N]`

    Returns:
        `[E, N, K]`
    """
    return outputs.gather(2, _places(choices, outputs.shape)).squeeze(2)


def to_choices(gradient: Tensor, choices: Tensor, outputs: Tensor) -> Tensor:
    """The gradient by what is said of all choices, from that by what is said of one per row.

    Args:
        gradient: `[E, N, K]`
        choices: `[N]`
        outputs: What is said. `[E, N, n, K]`

    Returns:
        `[E, N, n, K]`
    """
    places = _places(choices, outputs.shape)
    return torch.zeros_like(outputs).scatter_(2, places, gradient.unsqueeze(2))


def _places(choices: Tensor, shape: torch.Size) -> Tensor:
    """Where what is said of one choice per row stands. `[N]` to `[E, N, 1, K]`"""
    places = choices.view(1, -1, 1, 1)
    return places if shape[0] == shape[3] == 1 else places.expand(shape[0], -1, 1, shape[3])
