"""Policy gradients from the policy's own experience: REINFORCE, with and without a baseline, and A2C.

Each `learn` is the box of its paper in the research verbs, for policies with memory and without, and for any space of
actions. Every transition weighs the same, in short episodes and in long ones. As is usual, the gradient is that of
discounted returns without the further factor gamma^t, which would have late steps count for little.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from rl_framework.algorithms.on_policy import Metrics, OnPolicyAlgorithm
from rl_framework.algorithms.policy_gradient_config import (
    A2CConfig,
    PolicyGradientConfig,
    REINFORCEConfig,
    REINFORCEWithBaselineConfig,
)
from rl_framework.data.rollout import Rollout
from rl_framework.errors import InvalidInputError
from rl_framework.functional.policy_losses import value_errors
from rl_framework.rollouts.episode_sampling import sample_episodes
from rl_framework.rollouts.sampling import start
from rl_framework.rollouts.scoring import Scores, score

EPSILON = 1e-8
TERMS = ("loss", "policy_loss", "value_loss", "entropy")


class PolicyGradient(OnPolicyAlgorithm):
    """Base of learners that take one step per rollout up the gradient of weighted log-probabilities."""

    config: PolicyGradientConfig

    def terms(self, rollout: Rollout, scores: Scores, weights: Tensor, targets: Tensor | None = None) -> Tensor:
        """The loss, to be minimised, and what it is made of.

        Args:
            rollout: The steps; those that rows rested do not count.
            scores: What the model says of them. `[T, B]`
            weights: What each action was worth; standardised here if that is wanted. `[T, B]`
            targets: What values should be, None for a method without. `[T, B]`

        Returns:
            The numbers named in `TERMS`. `[4]`
        """
        valid = slice(None) if rollout.valid is None else rollout.valid
        worth = weights.detach()[valid]
        worth = standardized(worth) if self.config.standardize_advantages else worth
        policy_loss = -(scores.log_prob[valid] * worth).mean()
        entropy = scores.entropy[valid].mean()
        value_loss = torch.zeros_like(entropy)
        if targets is not None:
            value_loss = value_errors(known_values(scores.values)[valid], targets.detach()[valid]).mean()
        loss = policy_loss + self.config.value_coefficient * value_loss - self.entropy_coefficient * entropy
        return torch.stack([loss, policy_loss, value_loss, entropy])

    def descend(self, *terms: Tensor) -> Metrics:
        """One step of the optimiser down the mean of losses that `terms` gave."""
        means = torch.stack(terms).mean(0)
        self.optimizer.zero_grad()
        means[0].backward()  # type: ignore[no-untyped-call]  # torch leaves it without types
        norm = self.step_optimizer()
        numbers = zip((*TERMS, "gradient_norm"), [*means.tolist(), float(norm)], strict=True)
        return {f"train/{name}": number for name, number in numbers}


class REINFORCE(PolicyGradient):
    """Plays whole episodes, and makes each action more probable in proportion to the return that followed it.

    Episodes that are cut count as if nothing had followed: there are no values to tell what would have.

    Source: Williams, Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning, 1992,
    in the form with the rewards to go of each action.
    """

    Config: ClassVar[type[REINFORCEConfig]] = REINFORCEConfig
    config: REINFORCEConfig

    def learn(self, rollout: Rollout) -> Metrics:
        """Climb the gradient of log-probabilities, weighted with returns."""
        returns = rollout.returns(self.config.gamma, rewards=self.scaled_rewards(rollout), bootstrap=False)
        now = score(self.model, rollout)
        return self.descend(self.terms(rollout, now, returns))

    def _sample(self) -> Rollout:
        """Play episodes from a reset on, to be followed by another reset: where rows stand at the end says nothing."""
        episodes = sample_episodes(
            self.model,
            self.environments,
            self.config.episodes_per_env,
            max_length=self.config.horizon,
            generator=self.generator,
        )
        return replace(episodes, next=start(self.model, self.environments, self.position.observations))


class REINFORCEWithBaseline(REINFORCE):
    """REINFORCE, weighted with how much better the return was than a learned value foretold.

    Episodes that are cut go on with the value of their true last observation; those that end do not.

    Source: Williams, 1992, with the reinforcement baseline of its section 4; Sutton & Barto, Reinforcement Learning,
    2nd edition, section 13.4.
    """

    Config: ClassVar[type[REINFORCEWithBaselineConfig]] = REINFORCEWithBaselineConfig
    config: REINFORCEWithBaselineConfig

    def learn(self, rollout: Rollout) -> Metrics:
        """Climb the gradient of log-probabilities, weighted with returns less values; pull values to returns."""
        returns = rollout.returns(self.config.gamma, rewards=self.scaled_rewards(rollout))
        now = score(self.model, rollout)
        return self.descend(self.terms(rollout, now, returns - known_values(now.values), returns))


class A2C(PolicyGradient):
    """Advantage actor-critic: a few steps in every environment, then one update from all of them at once.

    Source: Mnih et al., Asynchronous Methods for Deep Reinforcement Learning, 2016, algorithm S3, with its actors in
    step; generalised advantages (`gae_lambda` below 1): Schulman et al., 2016.
    """

    Config: ClassVar[type[A2CConfig]] = A2CConfig
    config: A2CConfig

    def learn(self, rollout: Rollout) -> Metrics:
        """Climb the gradient of log-probabilities, weighted with advantages; pull values to values plus advantages."""
        config = self.config
        advantages = rollout.advantages(config.gamma, config.gae_lambda, rewards=self.scaled_rewards(rollout))
        now = score(self.model, rollout)
        return self.descend(self.terms(rollout, now, advantages, advantages + known_values(rollout.values)))


def standardized(numbers: Tensor) -> Tensor:
    """Brought to mean 0 and standard deviation 1; a single one stays as it is."""
    if numbers.numel() < 2:
        return numbers
    std, mean = torch.std_mean(numbers)
    return (numbers - mean) / (std + EPSILON)


def known_values(values: Tensor | None) -> Tensor:
    """The values, which a method with a critic or a baseline cannot do without.

    Raises:
        InvalidInputError: There are none.
    """
    if values is None:
        raise InvalidInputError(
            "This algorithm needs a model with values: set `value` in the ModelOutput of its step, or use REINFORCE, "
            "which needs none."
        )
    return values
