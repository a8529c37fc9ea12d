"""The policy step of the episode trainer: advantage-weighted regression, near the policy that it began with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rl_framework.algorithms.episode_pieces import Piece, groups_of, shuffled
from rl_framework.algorithms.episode_table import EpisodeTable, divergences
from rl_framework.algorithms.gradients import cut_gradients, forget_gradients
from rl_framework.algorithms.kl_controller import KLController
from rl_framework.algorithms.policy_batches import PolicyBatch, PolicyBatches
from rl_framework.algorithms.processes import Processes
from rl_framework.algorithms.vtrace_awr_config import VTraceAWRConfig
from rl_framework.functional.episode_losses import entropy_slope, weighted_log_likelihood
from rl_framework.nn.consecutive import Consecutive
from rl_framework.nn.distribution import Distribution, at_least_single
from rl_framework.nn.distributions import join_distributions
from rl_framework.nn.episode_model import EpisodeModel, EpisodeScores, score_checked
from rl_framework.nn.scaled_value import ScaledValue

LOSSES = ("policy_loss", "kl_penalty", "encoding_loss", "model_loss")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """What a policy step learns from.

    Attributes:
        pieces: The episodes, cut to fit into minibatches. `[P]`
        table: What the model said of them at the update's start.
        weights: How much each action counts, of mean 1 over all processes. `[M]`
        value_targets: At unit scale. `[M]`
        entropy_target: Where the mean entropy should be, in nats. `[]`
        entropy_coefficient: How much its squared distance from there counts.
    """

    pieces: Sequence[Piece]
    table: EpisodeTable
    weights: Tensor
    value_targets: Tensor
    entropy_target: Tensor
    entropy_coefficient: float


@dataclass(slots=True, kw_only=True)
class PolicyFit:
    """Moves a model towards the actions that did better than expected.

    Attributes:
        model: What learns.
        optimizer: What changes it.
        parameters: What the optimiser changes.
        value_function: Judges the encodings and stays as it is.
        controller: Weighs the divergence from the policy at the update's start.
        config: Hyper-parameters.
        processes: Those that learn together.
        generator: From which orders are drawn.
    """

    model: EpisodeModel
    optimizer: torch.optim.Optimizer
    parameters: list[nn.Parameter]
    value_function: ScaledValue
    controller: KLController
    config: VTraceAWRConfig
    processes: Processes
    generator: torch.Generator

    def run(self, lessons: Lessons) -> dict[str, Tensor]:
        """Go through all pieces for the configured number of epochs.

        Returns:
            Means over the gradient steps: of this process's parts of the losses, which add up over processes, and of
            the gradients' length, as `gradient_norm`. `[]` each
        """
        n_steps = self.processes.sum(lessons.weights.new_full((), float(len(lessons.table))))
        self.value_function.requires_grad_(requires_grad=False)
        try:
            seen = [
                self._step(lessons, batch, n_steps / n_batches)
                for batch, n_batches in self._epochs(PolicyBatches(lessons.pieces, lessons.table))
            ]
        finally:
            self.value_function.requires_grad_(requires_grad=True)
        return dict(zip((*LOSSES, "gradient_norm"), torch.stack(seen).mean(0).unbind(), strict=True))

    def _epochs(self, batches: PolicyBatches) -> Iterator[tuple[PolicyBatch | None, int]]:
        """All batches, and how many there are in their epoch: as many as the process with the most of them has."""
        limit = self.config.minibatch_timesteps
        lengths = [piece.length for piece in batches.pieces]
        for _ in range(self.config.epochs):
            order = None if limit is None else shuffled(len(lengths), self.generator)
            groups = groups_of(lengths, limit, order)
            n_batches = int(self.processes.largest(len(groups)))
            for at in range(n_batches):
                yield batches.of(groups[at]) if at < len(groups) else None, n_batches

    def _step(self, lessons: Lessons, batch: PolicyBatch | None, divisor: Tensor) -> Tensor:
        """One gradient step; gives this process's part of the losses, and the length of the gradient."""
        forget_gradients(self.parameters)
        if batch is None:
            nothing = divisor.new_zeros(0)
            self._meet(nothing, nothing)
            losses = [torch.zeros_like(divisor)] * len(LOSSES)
        else:
            total, losses = self._losses(lessons, batch, divisor)
            total.backward()  # type: ignore[no-untyped-call]  # torch leaves it without types
        self.processes.sum_gradients(self.parameters)
        length = cut_gradients(self.parameters, self.config.max_gradient_norm)
        self.optimizer.step()
        return torch.stack([*(loss.detach() for loss in losses), length.to(divisor)])

    def _losses(self, lessons: Lessons, batch: PolicyBatch, divisor: Tensor) -> tuple[Tensor, list[Tensor]]:
        """This process's part of the loss, and of the terms that are reported."""
        scores = self._scores(batch)
        log_prob, distribution = _counted(scores, batch, exact=lessons.table.distribution is not None)
        penalties = divergences(lessons.table, batch.rows, log_prob, distribution)
        entropies = self._entropies(lessons, log_prob, distribution)
        weight = self.controller.coefficient.to(divisor)
        mean_entropy, n_steps = self._meet(penalties, entropies)
        pull = lessons.entropy_coefficient * entropy_slope(mean_entropy, lessons.entropy_target.to(divisor))
        losses = [
            weighted_log_likelihood(log_prob, lessons.weights[batch.rows]).sum() / divisor,
            weight * penalties.sum() / divisor,
            self._encoding_loss(scores, batch, lessons.value_targets, divisor),
            self._model_loss(scores, batch, divisor),
        ]
        return torch.stack(losses).sum() + pull * entropies.sum() / n_steps, losses

    def _scores(self, batch: PolicyBatch) -> EpisodeScores:
        pieces = batch.pieces
        return score_checked(
            self.model,
            [piece.episode for piece in pieces],
            [piece.length for piece in pieces],
            [piece.name for piece in pieces],
        )

    def _meet(self, penalties: Tensor, entropies: Tensor) -> tuple[Tensor, Tensor]:
        """Tell the controller of the divergence over all processes; give the mean entropy, and the number of steps."""
        own = torch.stack(
            [penalties.detach().sum(), entropies.detach().sum(), penalties.new_full((), float(len(penalties)))]
        )
        total_penalty, total_entropy, count = self.processes.sum(own).unbind()
        n_steps = count.clamp(min=1.0)
        self.controller.observe(total_penalty / n_steps)
        return total_entropy / n_steps, n_steps

    def _entropies(self, lessons: Lessons, log_prob: Tensor, distribution: Distribution | None) -> Tensor:
        """Exact or estimated, as in the table; none where they do not count. `[m]`"""
        if lessons.entropy_coefficient == 0.0:
            return log_prob.new_zeros(1)
        return -log_prob if distribution is None else distribution.entropy()

    def _encoding_loss(self, scores: EpisodeScores, batch: PolicyBatch, targets: Tensor, divisor: Tensor) -> Tensor:
        """How far the value function is from its targets on the encodings as they are now."""
        coefficient = self.config.value_coefficient
        if coefficient == 0.0:
            return torch.zeros_like(divisor)
        values = self.value_function.normalized(scores.encodings[batch.observations])
        return coefficient * (values - targets[batch.rows]).square().sum() / divisor

    def _model_loss(self, scores: EpisodeScores, batch: PolicyBatch, divisor: Tensor) -> Tensor:
        """The model's own loss, for as many steps as it is the mean of."""
        coefficient = self.config.model_loss_coefficient
        if scores.loss is None or coefficient == 0.0:
            return torch.zeros_like(divisor)
        return coefficient * scores.loss.reshape(()) * (len(batch.rows) / divisor)


def _counted(scores: EpisodeScores, batch: PolicyBatch, *, exact: bool) -> tuple[Tensor, Distribution | None]:
    """Log-likelihoods, in single precision at least, and distributions, if they are wanted, of the steps that count."""
    log_prob, distribution = at_least_single(scores.log_prob), scores.distribution if exact else None
    if batch.chosen is not None:
        return log_prob[batch.chosen], None if distribution is None else distribution.rows(batch.chosen)
    if isinstance(distribution, Consecutive):
        return log_prob, join_distributions([distribution])
    return log_prob, distribution
