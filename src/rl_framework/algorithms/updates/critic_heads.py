"""What critics say of each value, how members of an ensemble are combined, and what all of that should be.

Outputs of E critics for N transitions are `[E, N, K]`: of each of V values, one for each discount factor or horizon,
so many numbers. Targets are samples of A numbers for each value, `[N, V, A]`; one for all but quantile critics.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from rl_framework.algorithms.updates.base import Learned, RuleConfig
from rl_framework.data.replay_batch import ReplayBatch
from rl_framework.functional.off_policy_losses import (
    bootstrapped_targets,
    gaussian_value_losses,
    gaussian_variance,
    one_step_shorter,
    pooled_quantiles,
    quantile_value_losses,
    random_simplex_point,
    squared_value_losses,
)

Weights: TypeAlias = Tensor | None


class Descent:
    """How critics get better.

    Args:
        gradient: That of the loss by the outputs. `[E, N, K]`
        measure: Gives `loss`.
        judge: Gives `errors`.

    Attributes:
        gradient: As given.
    """

    def __init__(self, gradient: Tensor, measure: Callable[[], Tensor], judge: Callable[[], Tensor]) -> None:
        self.gradient = gradient
        self._measure, self._judge = measure, judge

    @property
    def loss(self) -> Tensor:
        """The mean of the losses, each counting by its weight; without gradients. `[]`"""
        return self._measure()

    @property
    def errors(self) -> Tensor:
        """As those of `CriticLoss`. `[N]`"""
        return self._judge()


@dataclass(frozen=True, kw_only=True, slots=True)
class CriticLoss:
    """What critics have to learn of transitions.

    Attributes:
        losses: To be minimised, of all members together. `[N]`
        errors: Magnitude by which the value that is acted on is off, averaged over members; without gradients. `[N]`
    """

    losses: Tensor
    errors: Tensor

    def mean(self, weights: Tensor | None) -> Tensor:
        """Mean of the losses, each counting by its weight. `[N]` to `[]`"""
        return (self.losses if weights is None else self.losses * weights).mean()


class CriticHead(ABC):
    """Reads what critics say.

    Args:
        config: Settings.
        n_values: Values of each action, V.

    Attributes:
        n_outputs: Outputs of each critic, K.
    """

    n_outputs: int

    def __init__(self, config: RuleConfig, n_values: int) -> None:
        self.config = config
        self.n_values = n_values
        self.n_outputs = n_values

    @abstractmethod
    def means(self, outputs: Tensor) -> Tensor:
        """Expected values. `[..., K]` to `[..., V]`"""

    @abstractmethod
    def samples(self, outputs: Tensor, weights: Weights) -> Tensor:
        """What all members say together, as samples of each value: `[E, N, K]` to `[N, V, A]`.

        Args:
            outputs: `[E, N, K]`
            weights: Of the members of a random ensemble. `[E]`
        """

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor, weights: Weights) -> CriticLoss:
        """How far outputs are from what they should be.

        Args:
            outputs: `[E, N, K]`
            targets: `[N, V, A]`
            weights: As for `samples`.
        """

    def descent(self, outputs: Tensor, targets: Tensor, weights: Weights, importance: Tensor | None) -> Descent:
        """How outputs get nearer to what they should be.

        Args:
            outputs: Without gradients. `[E, N, K]`
            targets: `[N, V, A]`
            weights: As for `samples`.
            importance: Weight of each transition; None where all count the same. `[N]`
        """
        leaf = outputs.detach().requires_grad_()
        with torch.enable_grad():
            found = self.loss(leaf, targets, weights)
            loss = found.mean(importance)
        (gradient,) = torch.autograd.grad(loss, leaf)
        return Descent(gradient, loss.detach, lambda: found.errors)

    def draw_weights(self, generator: torch.Generator, device: torch.device) -> Weights:
        """Weights of the members for one update; None if they do not form a random ensemble. `[E]`"""
        if self.config.combination != "random_ensemble":
            return None
        return random_simplex_point(self.config.n_critics, generator, device)

    def acting(self, values: Tensor) -> Tensor:
        """The value that is acted on: of the last discount factor, or the mean of the longest horizons.

        Args:
            values: `[..., V]`

        Returns:
            `[...]`
        """
        if self.config.horizons is None:
            return values.select(-1, -1)
        return values[..., -self.config.acting_horizons :].mean(-1)

    def targets(self, batch: ReplayBatch, following: Tensor, cost: Tensor | None = None) -> Tensor:
        """What critics should say.

        Args:
            batch: The transitions.
            following: What is said of the next state. `[N, V, A]`
            cost: What is taken off the value of the next state, such as the price of a certain policy. `[N]`

        Returns:
            `[N, V, A]`
        """
        if cost is not None:
            following = following - cost[:, None, None]
        if self.config.horizons is not None:
            following = one_step_shorter(following)
        return bootstrapped_targets(batch.rewards, batch.discounts, following, limits=self.config.clip_target_range)

    def combined(self, values: Tensor, weights: Weights) -> Tensor:
        """What members say together. `[E, N, ...]` to `[N, ...]`"""
        if len(values) == 1:
            return values[0]
        if weights is not None:
            return (weights.view(-1, *(1,) * (values.dim() - 1)) * values).sum(0)
        return values.amin(0) if self.config.combination == "min" else values.mean(0)

    def _errors(self, values: Tensor, targets: Tensor) -> Tensor:
        """Values of members `[E, N, V]` and their targets `[N, V]` to magnitudes of errors. `[N]`"""
        return self._magnitudes(values.detach() - targets)

    def _magnitudes(self, distances: Tensor) -> Tensor:
        """Distances of values of members `[E, N, V]` to magnitudes of errors. `[N]`"""
        found = self.acting(distances).abs()
        return found[0] if len(found) == 1 else found.mean(0)


def critic_report(head: CriticHead, found: Descent, said: Tensor) -> Learned:
    """What a gradient step of critics tells.

    Args:
        head: Reads what they say.
        found: The step.
        said: What they said before it, without gradients. `[E, N, K]`
    """

    def report() -> dict[str, Tensor]:
        return {"train/critic_loss": found.loss, "train/value": head.acting(head.means(said)).mean()}

    return Learned(report, lambda: found.errors)


class ExpectedHead(CriticHead):
    """Critics that say the expected value."""

    def means(self, outputs: Tensor) -> Tensor:
        """The outputs."""
        return outputs

    def samples(self, outputs: Tensor, weights: Weights) -> Tensor:
        """The members' values, combined."""
        return self.combined(outputs, weights).unsqueeze(-1)

    def loss(self, outputs: Tensor, targets: Tensor, weights: Weights) -> CriticLoss:
        """Squared errors of the members, or of their weighted sum."""
        targets = targets.squeeze(-1)
        if weights is not None:
            outputs = self.combined(outputs, weights).unsqueeze(0)
        return CriticLoss(losses=squared_value_losses(outputs, targets), errors=self._errors(outputs, targets))

    def descent(self, outputs: Tensor, targets: Tensor, weights: Weights, importance: Tensor | None) -> Descent:
        """The same by a gradient that is written out: 2 (q - y) / (N V), times what weights there are."""
        values = outputs if weights is None else self.combined(outputs, weights).unsqueeze(0)
        distances = values - targets.squeeze(-1)
        pull = distances * (2.0 * len(distances) / distances.numel())
        if importance is not None:
            pull = pull * importance.unsqueeze(1)
        gradient = pull if weights is None else pull * weights.view(-1, 1, 1)
        return Descent(gradient, lambda: 0.5 * (pull * distances).sum(), lambda: self._magnitudes(distances))


class GaussianHead(CriticHead):
    """Critics that say mean and variance of the value: first all means, then all variances."""

    def __init__(self, config: RuleConfig, n_values: int) -> None:
        super().__init__(config, n_values)
        self.n_outputs = 2 * n_values

    def means(self, outputs: Tensor) -> Tensor:
        """The means."""
        return outputs[..., : self.n_values]

    def samples(self, outputs: Tensor, weights: Weights) -> Tensor:
        """The members' means, combined."""
        return self.combined(self.means(outputs), weights).unsqueeze(-1)

    def loss(self, outputs: Tensor, targets: Tensor, weights: Weights) -> CriticLoss:
        """Negative log-likelihoods."""
        del weights
        targets, means = targets.squeeze(-1), self.means(outputs)
        losses = gaussian_value_losses(
            means,
            gaussian_variance(outputs[..., self.n_values :]),
            targets,
            regularization=self.config.variance_regularization,
        )
        return CriticLoss(losses=losses, errors=self._errors(means, targets))


class QuantileHead(CriticHead):
    """Critics that say quantiles of the value: all quantiles of one value side by side."""

    def __init__(self, config: RuleConfig, n_values: int) -> None:
        super().__init__(config, n_values)
        self.n_outputs = n_values * config.n_quantiles

    def means(self, outputs: Tensor) -> Tensor:
        """The means of the quantiles."""
        return self._quantiles(outputs).mean(-1)

    def samples(self, outputs: Tensor, weights: Weights) -> Tensor:
        """Each quantile's least value among the members, or the lower ones of all members' quantiles."""
        quantiles = self._quantiles(outputs)
        if self.config.combination == "mean":
            return pooled_quantiles(quantiles, self.config.dropped_quantiles)
        return self.combined(quantiles, weights)

    def loss(self, outputs: Tensor, targets: Tensor, weights: Weights) -> CriticLoss:
        """Quantile Huber losses."""
        del weights
        quantiles = self._quantiles(outputs)
        errors = self._errors(quantiles.mean(-1), targets.mean(-1))
        return CriticLoss(losses=quantile_value_losses(quantiles, targets), errors=errors)

    def _quantiles(self, outputs: Tensor) -> Tensor:
        """`[..., K]` to `[..., V, Q]`"""
        return outputs.reshape(*outputs.shape[:-1], self.n_values, self.config.n_quantiles)


HEADS: dict[str, type[CriticHead]] = {"expected": ExpectedHead, "gaussian": GaussianHead, "quantile": QuantileHead}


def make_critic_head(config: RuleConfig, gammas: tuple[float, ...]) -> CriticHead:
    """The reader for critics with some settings.

    Args:
        config: Settings.
        gammas: The learner's discount factors.
    """
    return HEADS[config.critic](config, config.horizons or len(gammas))
