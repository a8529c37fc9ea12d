"""The phases of an update of the episode trainer: values, advantages, policy, values again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from rl_framework.algorithms.episode_pieces import Piece, cut_pieces
from rl_framework.algorithms.episode_replay import EpisodeRecord
from rl_framework.algorithms.episode_reward_scale import EpisodeRewardScale
from rl_framework.algorithms.episode_table import EpisodeTable, score_pieces
from rl_framework.algorithms.policy_fit import LOSSES, Lessons, PolicyFit
from rl_framework.algorithms.process_means import Share
from rl_framework.algorithms.processes import Processes
from rl_framework.algorithms.value_fit import ValueFit
from rl_framework.algorithms.vtrace_awr_config import VTraceAWRConfig
from rl_framework.errors import InvalidInputError
from rl_framework.functional.episode_losses import (
    entropy_target,
    mean_and_deviation,
    moments,
    relative_weights,
    standardized,
)
from rl_framework.functional.policy_losses import approximate_kl
from rl_framework.nn.episode_model import EpisodeModel, score_checked
from rl_framework.nn.threads import threads_for

FARTHEST = 100.0
"""A step's distance from the policy that acted is reported up to here, so that a single one does not drown the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """When an update happens.

    Attributes:
        progress: Share of the run that is done, from 0 to 1.
        updates: Number of updates so far: episodes that were added since the latest of them are news.
    """

    progress: float
    updates: int


@dataclass(slots=True, kw_only=True)
class EpisodePhases:
    """Learns once from all episodes that are kept.

    Attributes:
        model: What is trained.
        value_fit: How the value function learns from frozen encodings.
        policy_fit: How the model learns.
        rewards: How large rewards are.
        config: Hyper-parameters.
        processes: Those that learn together.
        first_entropy: Mean entropy of the model before its first step, None before that is known. `[]`
    """

    model: nn.Module
    value_fit: ValueFit
    policy_fit: PolicyFit
    rewards: EpisodeRewardScale
    config: VTraceAWRConfig
    processes: Processes
    first_entropy: Tensor | None = None

    def learn(self, records: Sequence[EpisodeRecord], occasion: Occasion) -> dict[str, Share]:
        """Go through the phases.

        Args:
            records: The episodes that are kept, at least one.
            occasion: When this is.

        Returns:
            What this process adds to the numbers to be reported.

        Raises:
            InvalidInputError: What the model says of an episode does not fit it, or it cannot be cut.
        """
        config = self.config
        self._measure(records)
        pieces = cut_pieces(self._scorer, records, config.minibatch_timesteps)
        before = self._score(pieces)
        self._count_rewards(pieces, before, occasion.updates)
        warmup = 0 if occasion.updates else config.value_warmup_epochs
        self._fit_values(before, max(warmup, config.value_epochs_before))
        lessons = self._lessons(pieces, before, occasion.progress)
        learned = self._fit_policy(lessons)
        after = self._score(pieces, finite=False)
        value_loss = self._fit_values(after, config.value_epochs_after)
        return {**self._learned(learned), **self._found(lessons, after), "train/value_loss": (value_loss, self._part)}

    def state_dict(self) -> dict[str, Any]:
        """Statistics and the weight of the divergence."""
        return {
            "rewards": self.rewards.state_dict(),
            "controller": self.policy_fit.controller.state_dict(),
            "first_entropy": self.first_entropy,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.rewards.load_state_dict(state["rewards"])
        self.policy_fit.controller.load_state_dict(state["controller"])
        entropy = state["first_entropy"]
        self.first_entropy = None if entropy is None else entropy.to(self.policy_fit.controller.coefficient.device)

    @property
    def reward_size(self) -> float:
        """What rewards are divided by."""
        return self.rewards.size if self.config.normalize_rewards else 1.0

    # Frozen encodings

    @property
    def _scorer(self) -> EpisodeModel:
        return cast(EpisodeModel, self.model)

    def _measure(self, records: Sequence[EpisodeRecord]) -> None:
        """Ask the model for lengths that nobody else knows."""
        for record in records:
            if record.length is None:
                with torch.no_grad():
                    scores = score_checked(self._scorer, [record.episode], [None], [record.name])
                (record.length,) = scores.lengths

    def _score(self, pieces: Sequence[Piece], *, finite: bool = True) -> EpisodeTable:
        with threads_for(self._numbers(pieces)):
            return score_pieces(self._scorer, pieces, self.config.minibatch_timesteps, finite=finite)

    def _fit_values(self, table: EpisodeTable, n_epochs: int) -> Tensor:
        width = max(self.config.value_hidden_sizes, default=1)
        with threads_for(self.config.value_minibatch_size * width):
            return self.value_fit.run(table, n_epochs, self.reward_size)

    def _count_rewards(self, pieces: Sequence[Piece], table: EpisodeTable, updates: int) -> None:
        """Take the raw rewards of steps that count into the statistics, once for each episode."""
        fresh = torch.cat([torch.full((piece.length,), piece.record.added_at == updates) for piece in pieces])
        self.rewards.add(table.rewards[fresh.to(table.rewards.device)[table.packed.steps]])
        self.rewards.gather(self.processes)

    # The policy step

    def _lessons(self, pieces: Sequence[Piece], table: EpisodeTable, progress: float) -> Lessons:
        """What each step was worth, and how much its action is to count."""
        value_function = self.value_fit.value_function
        worth = table.targets(value_function, self.config, self.reward_size)
        if self.first_entropy is None:
            totals = self.processes.sum(moments(table.entropies()))
            self.first_entropy = mean_and_deviation(totals)[0]
        return Lessons(
            pieces=pieces,
            table=table,
            weights=self._weights(worth.advantages),
            value_targets=value_function.normalize(worth.values),
            entropy_target=entropy_target(self.first_entropy, self.config.at("entropy_share", progress)),
            entropy_coefficient=self.config.at("entropy_coefficient", progress),
        )

    def _weights(self, advantages: Tensor) -> Tensor:
        """Of mean 1 over all processes' steps. `[M]`"""
        config, processes = self.config, self.processes
        totals = processes.sum(moments(advantages))
        if not totals[0]:
            raise InvalidInputError("No step of any episode counts: EpisodeScores.valid is False for all of them.")
        if config.normalize_advantages:
            advantages = standardized(advantages, *mean_and_deviation(totals))
        highest = processes.largest(advantages.max().item() if len(advantages) else -math.inf)
        weights = relative_weights(advantages, highest, temperature=config.temperature, clip=config.advantage_clip)
        count, total, _ = processes.sum(moments(weights)).unbind()
        return weights * (count / total).to(weights.dtype)

    def _fit_policy(self, lessons: Lessons) -> dict[str, Tensor]:
        self.model.train()
        try:
            with threads_for(self._numbers(lessons.pieces)):
                return self.policy_fit.run(lessons)
        finally:
            self.model.eval()

    def _numbers(self, pieces: Sequence[Piece]) -> int:
        """Numbers that the model's widest layer gives for a minibatch."""
        widest = max((weight.shape[0] for weight in self.model.parameters() if weight.dim() > 1), default=1)
        n_steps = sum(piece.length for piece in pieces)
        limit = self.config.minibatch_timesteps
        return widest * (n_steps if limit is None else min(limit, n_steps))

    # Numbers to report

    @property
    def _part(self) -> float:
        """This process's share of a number that is the sum of all processes' parts."""
        return 1.0 / self.processes.count

    def _learned(self, losses: dict[str, Tensor]) -> dict[str, Share]:
        parts: dict[str, Share] = {f"train/{name}": (losses[name], self._part) for name in LOSSES}
        return {**parts, "train/gradient_norm": (losses["gradient_norm"], 1.0)}

    def _found(self, lessons: Lessons, after: EpisodeTable) -> dict[str, Share]:
        """How the policy stands to the one that it was, and to those that acted."""
        before, count = lessons.table, float(len(after))
        distances = approximate_kl(before.log_prob, before.behaviour_log_prob)
        return {
            "train/kl": (after.divergences_from(before).sum(), count),
            "train/entropy": (after.entropies().sum(), count),
            "train/entropy_target": (lessons.entropy_target, 1.0),
            "train/log_likelihood": (after.log_prob.sum(), count),
            "train/effective_share": (count, lessons.weights.square().sum()),
            "train/behaviour_kl": (distances.clamp(max=FARTHEST).sum(), count),
        }
