"""What a policy did in many environments side by side, as a value: to be sliced, joined, shuffled and learned from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat

import torch
from torch import Tensor

from rl_framework.core.trees import Tree
from rl_framework.data.rollout_batches import (
    check_sequences,
    random_order,
    row_numbers,
    rows_per_part,
    sequence_steps,
    sequences_per_batch,
    step_range,
    take,
)
from rl_framework.data.rollout_columns import Position, RolloutColumns, map_present
from rl_framework.data.rollout_joining import joined_in_time, joined_side_by_side
from rl_framework.errors import InvalidInputError
from rl_framework.functional.returns import discounted_returns, generalized_advantages

__all__ = ["Position", "Rollout", "concatenate", "concatenate_rows"]

GATHERED_AT_ONCE = 16 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rollout(RolloutColumns):
    """T steps in each of B environments; the columns are described in `RolloutColumns`.

    Nothing that is done with a rollout changes it. Pieces in time, blocks of rows and whole batches are views of its
    memory; everything else is copied.
    """

    def advantages(self, gamma: float, gae_lambda: float, *, rewards: Tensor | None = None) -> Tensor:
        """Generalised advantages of the actions, bootstrapped where the task went on unseen. `[T, B]`

        Args:
            gamma: Discount per step.
            gae_lambda: 0 for one-step advantages, 1 for returns minus values.
            rewards: What to take for the rewards, e.g. normalised ones. `[T, B]`

        Raises:
            InvalidInputError: The policy that acted gave no values.
        """
        if self.values is None or self.next_values is None:
            raise InvalidInputError(
                "Advantages need the values of the policy that acted, and it gave none. Use returns(gamma), or a "
                "model that sets the `value` of its outputs."
            )
        return generalized_advantages(
            self.rewards if rewards is None else rewards,
            self.values,
            self.next_values,
            self.terminated,
            self.truncated,
            gamma=gamma,
            gae_lambda=gae_lambda,
        )

    def returns(self, gamma: float, *, rewards: Tensor | None = None, bootstrap: bool = True) -> Tensor:
        """Discounted sums of the rewards that follow, up to the end of the episode. `[T, B]`

        Args:
            gamma: Discount per step.
            rewards: What to take for the rewards, e.g. normalised ones. `[T, B]`
            bootstrap: Add `next_values`, where they are known, for what followed unseen: after a cut and after the last
                step. Otherwise that counts as 0.
        """
        return discounted_returns(
            self.rewards if rewards is None else rewards,
            self.terminated,
            self.truncated,
            gamma=gamma,
            next_values=self.next_values if bootstrap else None,
        )

    def with_extras(self, **extras: Tensor) -> Rollout:
        """The same with further quantities per step, e.g. advantages. `[T, B, ...]` each

        Raises:
            InvalidInputError: One of them has no entry for each step and row.
        """
        return replace(self, extras={**self.extras, **extras})

    def detach(self) -> Rollout:
        """The same without a graph of gradients."""
        return self._moved(torch.Tensor.detach)

    def to(self, device: torch.device | str) -> Rollout:
        """The same on another device."""
        return self._moved(lambda leaf: leaf.to(device))

    def __getitem__(self, part: slice | int) -> Rollout:
        """Consecutive steps, or one step as a rollout of length 1. Nothing is copied.

        A piece bootstraps from its own `next_values`, and adjacent pieces can be joined again. It does not know which
        episodes ended in it; it has no `states` where memory was not saved before its first step.

        Raises:
            InvalidInputError: No step is left, or one is asked for that there is not.
        """
        first, stop = step_range(part, len(self))
        if stop - first == len(self):
            return self
        return self.map_columns(
            lambda column: column.narrow(0, first, stop - first),
            states=self._states_between(first, stop),
            next=self.next if stop == len(self) else None,
            stream=self.stream,
            first_step=self.first_step + first,
        )

    def __iter__(self) -> Iterator[Rollout]:
        """Step by step, as rollouts of length 1."""
        return (self[step] for step in range(len(self)))

    def __add__(self, other: Rollout) -> Rollout:
        """This one and then the other, as `concatenate` does it."""
        return concatenate((self, other))

    def rows(self, index: slice | int | Sequence[int] | Tensor) -> Rollout:
        """Some of the environments, numbered anew. Copied.

        Raises:
            InvalidInputError: No row is left, or one is asked for that there is not.
        """
        numbers = row_numbers(index, self.n_rows)
        places: dict[int, list[int]] = {}
        for new, old in enumerate(numbers):
            places.setdefault(old, []).append(new)
        episodes = (replace(one, row=new) for one in self.episodes for new in places.get(one.row, ()))
        return self._reordered(torch.tensor(numbers, device=self.device), episodes=tuple(episodes))

    def shuffled(self, generator: torch.Generator | None = None) -> Rollout:
        """The transitions in random order, as one step of T B rows; with memory, whole rows in random order.

        Advantages and returns are sums along time: make them first, and carry them along as extras.

        Args:
            generator: Where the order is drawn; torch's global generator if None.
        """
        if self.state_interval:
            return self._reordered(random_order(self.n_rows, generator, self.device))
        return self._sequences(random_order(self.n_transitions, generator, self.device), 1)

    def minibatches(
        self,
        size: int | None = None,
        *,
        epochs: int = 1,
        sequence_length: int | None = None,
        shuffle: bool = True,
        generator: torch.Generator | None = None,
    ) -> Iterator[Rollout]:
        """All transitions, `epochs` times, in minibatches.

        Without memory a minibatch is one step of `size` rows. With memory, or a `sequence_length` L, it is L steps of
        `size / L` rows: sequences are kept whole, and `states` is the memory at the first step of each. A minibatch
        of everything is not copied unless sequences have to be cut out of longer ones.

        Args:
            size: Transitions per minibatch; all of them if None.
            epochs: How often everything comes.
            sequence_length: L; all T steps for a rollout with memory unless given.
            shuffle: In random order, a new one in each epoch.
            generator: Where the order is drawn; torch's global generator if None.

        Raises:
            InvalidInputError: The numbers do not divide, or there is no memory at the beginning of each sequence.
        """
        length = (len(self) if self.state_interval else 1) if sequence_length is None else sequence_length
        check_sequences(length, len(self), self.state_interval)
        count = sequences_per_batch(size, self.n_transitions, length)
        if epochs < 1:
            raise InvalidInputError(f"Everything comes at least once; got epochs={epochs}.")
        return self._minibatches(length, count, epochs, shuffle, generator)

    def parts(self, size: int | None) -> Iterator[Rollout]:
        """Consecutive blocks of rows with about `size` transitions each, to accumulate gradients. Nothing is copied.

        Args:
            size: Transitions per part; everything in one part if None.

        Raises:
            InvalidInputError: `size` is not positive.
        """
        return self.row_blocks(rows_per_part(size, len(self), self.n_rows))

    def _minibatches(
        self, length: int, count: int, epochs: int, shuffle: bool, generator: torch.Generator | None
    ) -> Iterator[Rollout]:
        n_sequences = self.n_transitions // length
        if count == n_sequences:
            yield from repeat(self._all_sequences(length), epochs)
            return
        at_once = n_sequences if self.n_bytes <= GATHERED_AT_ONCE else count
        for _ in range(epochs):
            numbers = random_order(n_sequences, generator, self.device) if shuffle else self._numbers(n_sequences)
            for chosen in torch.split(numbers, at_once):
                yield from self._sequences(chosen, length).row_blocks(count)

    def _all_sequences(self, length: int) -> Rollout:
        if length == len(self):
            return self.changed(states=self._states_every(length), state_interval=self._interval(length))
        if length == 1 and not self.state_interval:
            return self.map_columns(lambda column: column.flatten(0, 1).unsqueeze(0))
        return self._sequences(self._numbers(self.n_transitions // length), length)

    def _sequences(self, numbers: Tensor, length: int) -> Rollout:
        """The sequences of these numbers, `[n]`, copied side by side. `[length, n, ...]` per column"""
        steps = sequence_steps(numbers, length, self.n_rows)
        states = map_present(lambda leaf: take(leaf, numbers.unsqueeze(0)), self._states_every(length))
        return self.map_columns(
            lambda column: take(column, steps), states=states, state_interval=self._interval(length)
        )

    def _reordered(self, rows: Tensor, **parts: object) -> Rollout:
        states = map_present(lambda leaf: leaf.index_select(1, rows), self.states)
        return self.map_columns(lambda column: column.index_select(1, rows), states=states, **parts)

    def _interval(self, length: int) -> int:
        return length if self.state_interval else 0

    def _states_every(self, length: int) -> Tree:
        """Memory at the first step of each stretch of `length` steps."""
        return map_present(lambda leaf: leaf[:: -(-length // self.state_interval)], self.states)

    def _states_between(self, first: int, stop: int) -> Tree:
        """Saved memory of a piece, None if there is none before its first step."""
        if self.state_interval == 0 or first % self.state_interval:
            return None
        begin, end = first // self.state_interval, -(-stop // self.state_interval)
        return map_present(lambda leaf: leaf[begin:end], self.states)

    def _numbers(self, n: int) -> Tensor:
        return torch.arange(n, device=self.device)

    def _moved(self, function: Callable[[Tensor], Tensor]) -> Rollout:
        return self.map_columns(
            function,
            states=map_present(function, self.states),
            next=None if self.next is None else self.next.map(function),
            episodes=self.episodes,
            stream=self.stream,
            first_step=self.first_step,
        )


def concatenate(rollouts: Sequence[Rollout]) -> Rollout:
    """Rollouts of the same rows, one after the other in time.

    Where one does not begin exactly where the one before it stopped, the episodes that were running there are marked as
    truncated: they bootstrap from their own `next_values`, and nothing leaks over the seam. With memory this needs
    every row of the later one to open an episode; otherwise its memory would be that of another past.

    Raises:
        InvalidInputError: There is none, rows or columns disagree, or memory does not go on.
    """
    return Rollout(**joined_in_time(rollouts))


def concatenate_rows(rollouts: Sequence[Rollout]) -> Rollout:
    """Rollouts of the same length side by side, as one of all their rows.

    Raises:
        InvalidInputError: There is none, or lengths, columns or memory disagree.
    """
    return Rollout(**joined_side_by_side(rollouts))
