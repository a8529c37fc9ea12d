"""What the episode trainer is compared with: its passes alone, and the value function trained end to end.

Either takes the model, the episodes and the sizes of minibatches from a trainer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from rl_framework.algorithms.episode_pieces import Piece, cut_pieces, groups_of, shuffled
from rl_framework.algorithms.episode_table import EpisodeTable, score_pieces
from rl_framework.algorithms.episode_trainer import EpisodeTrainer
from rl_framework.algorithms.policy_batches import PolicyBatches
from rl_framework.nn.episode_model import EpisodeModel
from rl_framework.nn.recorded_passes import backward, recorded_passes
from rl_framework.nn.scaled_value import ScaledValue
from rl_framework.nn.threads import threads_for


@dataclass(frozen=True, slots=True)
class Minibatch:
    """Some pieces of episodes, as they go to the model.

    Attributes:
        episodes: The pieces.
        acting: Among their observations, those that an action followed. `[m]`
        rows: Which of all steps are theirs. `[m]`
    """

    episodes: Sequence[Any]
    acting: Tensor
    rows: Tensor


class BarePasses:
    """The forward and backward passes that an update needs, over the same minibatches, and nothing else.

    No targets, weights, divergences, entropies, optimisers, checks or statistics: the log-likelihoods and the values
    are added up, and that is what gradients are taken of.

    Args:
        trainer: Which has made an update already, so that its episodes are known.
    """

    def __init__(self, trainer: EpisodeTrainer) -> None:
        self.model = cast(EpisodeModel, trainer.model)
        self.value_function: ScaledValue = trainer.value_function
        self.config = trainer.config
        self._pieces = cut_pieces(self.model, list(trainer.replay), self.config.minibatch_timesteps)
        self._table = score_pieces(self.model, self._pieces, self.config.minibatch_timesteps)
        self._generator = torch.Generator().manual_seed(0)
        self._learned = list(cast(nn.Module, self.model).parameters())
        self._judging = list(self.value_function.parameters())

    def run(self) -> None:
        """All passes of an update."""
        config = self.config
        self._look()
        self._fit_values(config.value_epochs_before)
        self.value_function.requires_grad_(requires_grad=False)
        for _ in range(config.epochs):
            for batch in self._minibatches():
                self._learn(batch)
        self.value_function.requires_grad_(requires_grad=True)
        self._look()
        self._fit_values(config.value_epochs_after)

    @torch.no_grad()
    def _look(self) -> None:
        """Every piece once, without gradients."""
        for group in groups_of(self._lengths, self.config.minibatch_timesteps):
            self.model.score_episodes([self._pieces[at].episode for at in group])

    def _learn(self, batch: Minibatch) -> None:
        """One pass there and back; the value function's weights want no gradients, the encodings do."""
        for parameter in self._learned:
            parameter.grad = None
        scores = self.model.score_episodes(batch.episodes)
        values = self.value_function.normalized(scores.encodings[batch.acting])
        (scores.log_prob.sum() + values.sum()).backward()  # type: ignore[no-untyped-call]  # torch's

    def _fit_values(self, n_epochs: int) -> None:
        """Passes of the value function over frozen encodings, with those that its targets need."""
        table, size = self._table, self.config.value_minibatch_size
        width = max(self.config.value_hidden_sizes, default=1)
        with threads_for(size * width):
            for _ in range(n_epochs):
                with torch.no_grad():
                    self.value_function(table.encodings)
                for rows in torch.split(torch.randperm(len(table), generator=self._generator), size):
                    for parameter in self._judging:
                        parameter.grad = None
                    with recorded_passes():
                        total = self.value_function.normalized(table.encodings[table.packed.before[rows]]).sum()
                        backward((total,), (None,))

    def _minibatches(self) -> Iterator[Minibatch]:
        order = shuffled(len(self._pieces), self._generator)
        batches = PolicyBatches(self._pieces, self._table)
        for group in groups_of(self._lengths, self.config.minibatch_timesteps, order):
            batch = batches.of(group)
            yield Minibatch([piece.episode for piece in batch.pieces], batch.observations, batch.rows)

    @property
    def _lengths(self) -> list[int]:
        return [piece.length for piece in self._pieces]


class EndToEndValueFit:
    """A `ValueFit` that trains value function and model together, with a pass of the model for every minibatch.

    Targets are found once, from the encodings of before the first epoch: the fewest passes that one can do with.

    Args:
        trainer: Whose model and value function learn; its own `value_fit` is replaced by this.
    """

    def __init__(self, trainer: EpisodeTrainer) -> None:
        self.value_function: ScaledValue = trainer.value_function
        self._trainer = trainer
        self._parameters = [*trainer.model.parameters(), *self.value_function.parameters()]
        self._optimizer = torch.optim.AdamW(self._parameters, lr=1e-4)

    def run(self, table: EpisodeTable, n_epochs: int, reward_size: float) -> Tensor:
        """Learn for some epochs; gives the mean squared error of the last one. `[]`"""
        trainer, model = self._trainer, cast(EpisodeModel, self._trainer.model)
        limit = trainer.config.minibatch_timesteps
        pieces: list[Piece] = cut_pieces(model, list(trainer.replay), limit)
        targets = self.value_function.normalize(table.targets(self.value_function, trainer.config, reward_size).values)
        batches, error = PolicyBatches(pieces, table), torch.zeros(())
        for _ in range(n_epochs):
            order = shuffled(len(pieces), trainer.generator)
            for group in groups_of([piece.length for piece in pieces], limit, order):
                batch = batches.of(group)
                self._optimizer.zero_grad()
                encodings = model.score_episodes([piece.episode for piece in batch.pieces]).encodings
                values = self.value_function.normalized(encodings[batch.observations])
                error = (values - targets[batch.rows]).square().mean()
                error.backward()  # type: ignore[no-untyped-call]  # torch's
                self._optimizer.step()
        return error.detach()
