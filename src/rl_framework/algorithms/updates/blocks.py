"""Updates in blocks: what several minibatches have in common is computed in one piece."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

from torch import Tensor

from rl_framework.algorithms.parts import Metrics
from rl_framework.algorithms.updates.base import Learned, UpdateRule
from rl_framework.data.replay_batch import ReplayBatch
from rl_framework.nn.control_features import Prepared

MOST_STEPS = 32
MOST_ROWS = 4096
"""More than these save nothing: what comes with every call is no longer most of the work."""


class BlockRule(UpdateRule):
    """A rule that can learn from several minibatches which were drawn, and valued by target networks, together.

    It comes to the same as one by one but for what is drawn when, and saves small networks most of that work.
    """

    @property
    def has_steady_targets(self) -> bool:
        """Whether what critics should say of a transition changes only when target networks follow."""
        return False

    @abstractmethod
    def learn(self, batch: ReplayBatch, step: int, targets: Tensor | None = None) -> Learned:
        """As that of `UpdateRule`, with what `targets` says of the batch where it is known already."""

    @abstractmethod
    def targets(self, batch: ReplayBatch, weights: Tensor | None) -> Tensor:
        """What critics should say of transitions, without gradients. `[N, V, A]`

        Args:
            batch: The transitions.
            weights: Of the members of a random ensemble. `[E]`
        """

    def block(self, steps: range) -> range:
        """Up to the next change of the targets, if nothing else changes them."""
        if not self.has_steady_targets or not self.replay.can_draw_ahead or self.features.picture_spaces:
            return steps[:1]
        return block_of(steps, self.config.target_every, self.replay.config.batch_size)

    def optimize_block(self, steps: range) -> Metrics:
        """Learn from minibatches one after the other."""
        size = self.replay.config.batch_size
        whole = self.prepared(self.replay.sample(size * len(steps)))
        targets = parts(self.targets(whole, None), size)
        batches = minibatches(whole, size)
        learned = [self.learn(*each) for each in zip(batches, steps, targets, strict=True)]
        return learned[-1].metrics

    def prepared(self, batch: ReplayBatch) -> ReplayBatch:
        """Transitions with observations as networks take them, so that it is done but once."""
        return replace(
            batch,
            observations=self.features.prepare(batch.observations),
            next_observations=self.features.prepare(batch.next_observations),
        )


def block_of(steps: range, target_every: int, batch_size: int) -> range:
    """The first of some updates, up to the one after which target networks follow.

    Args:
        steps: Numbers of the updates, counted from 1.
        target_every: Target networks follow after every so many.
        batch_size: Transitions per update.
    """
    until_targets_follow = -(steps.start) % target_every + 1
    return steps[: min(until_targets_follow, MOST_STEPS, max(1, MOST_ROWS // batch_size))]


def minibatches(whole: ReplayBatch, size: int) -> list[ReplayBatch]:
    """Parts of so many transitions each, of observations without pictures that were prepared for networks."""
    seen, following = whole.observations.numbers, whole.next_observations.numbers
    columns = (seen, whole.actions, whole.rewards, following, whole.discounts, whole.rows)
    return [
        ReplayBatch(
            observations=Prepared(seen),
            actions=actions,
            rewards=rewards,
            next_observations=Prepared(following),
            discounts=discounts,
            rows=rows,
        )
        for seen, actions, rewards, following, discounts, rows in zip(
            *(parts(column, size) for column in columns), strict=True
        )
    ]


def parts(rows: Tensor, size: int) -> tuple[Tensor, ...]:
    """So many rows each. `[P size, ...]` to P times `[size, ...]`"""
    return rows.reshape(-1, size, *rows.shape[1:]).unbind()
