"""Episodes as batches of single transitions in random order, in the way that suits the size of the data.

Data that fit are copied into memory once. Larger ones in this library's own layout are read where they lie. Larger
ones in any other form are read in chunks of whole episodes, again in each epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from rl_framework.core.trees import Tree, select
from rl_framework.data.episode_layout import EpisodeLayout
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.data.streamed_transitions import StreamedTransitions
from rl_framework.data.transition_arrays import FlatSource, FlatTransitions, InMemoryTransitions, Pairs, pair_bytes
from rl_framework.errors import InvalidInputError

DEFAULT_MAX_BYTES = 2**30
BLOCK_BYTES = 2**23
MOST_BATCHES = 256


class EpochOrder(Protocol):
    """All transitions in one random order."""

    def read(self, start: int, stop: int) -> Pairs:
        """Those at some positions of the order. `[stop - start, ...]` per leaf"""
        ...


class Transitions(Protocol):
    """The transitions of some episodes."""

    @property
    def n_transitions(self) -> int:
        """How many there are."""
        ...

    @property
    def bytes_per_transition(self) -> int:
        """Memory that one pair takes."""
        ...

    def order(self, rng: np.random.Generator) -> EpochOrder:
        """All of them in an order that a generator draws."""
        ...

    def blocks(self, size: int) -> Iterator[Pairs]:
        """All of them once as they were recorded, at most `size` at a time."""
        ...

    def action_blocks(self, size: int) -> Iterator[Tree]:
        """The actions alone, likewise; observations are not read where they lie apart."""
        ...


def open_transitions(episodes: EpisodeSequence, *, max_bytes: int = DEFAULT_MAX_BYTES) -> Transitions:
    """The transitions of a sequence, held in the way that suits their number.

    Args:
        episodes: The episodes, at least one.
        max_bytes: Memory that copies of the data may take.

    Raises:
        InvalidInputError: There is no episode, the first one holds something else than numbers, or (found now for
            data in memory, when they are read for all others) a number is NaN or infinite.
    """
    if not len(episodes):
        raise InvalidInputError("There are no episodes to take transitions from.")
    layout = EpisodeLayout.of(episodes[0])
    if episodes.n_transitions * pair_bytes(layout) <= max_bytes:
        return InMemoryTransitions.of(episodes, layout)
    if isinstance(episodes.source, FlatSource):
        return FlatTransitions(episodes.source, episodes.indices)
    return StreamedTransitions(episodes, layout, max_bytes)


class TransitionBatches:
    """Batches without end: each epoch goes through all transitions once, in an order of its own.

    The last batch of an epoch is as small as what is left. Batches depend on seed, epoch and position alone, so that
    these three are the whole state.

    Args:
        transitions: The transitions.
        batch_size: Transitions per batch; the last one of an epoch is smaller.
        seed: From which the order of every epoch is derived.
        prepare: Turns pairs into what a batch should be, before they are cut into batches. It must work row by row.
            Some batches are prepared at once.

    Attributes:
        epoch: Number of epochs that are complete.
        position: Transitions that were taken in the present epoch.
    """

    def __init__(
        self,
        transitions: Transitions,
        batch_size: int,
        seed: int,
        prepare: Callable[[Pairs], Tree] = lambda pairs: pairs,
    ) -> None:
        self.transitions = transitions
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = self.position = 0
        self._prepare = prepare
        batch_bytes = max(1, batch_size * transitions.bytes_per_transition)
        self._block_size = batch_size * min(MOST_BATCHES, max(1, BLOCK_BYTES // batch_bytes))
        self._order: EpochOrder | None = None
        self._block: Tree = None
        self._block_start = self._block_stop = 0

    def __iter__(self) -> TransitionBatches:
        return self

    def __next__(self) -> Tree:
        """The next batch, prepared. `[batch_size, ...]` per leaf, or fewer rows at the end of an epoch."""
        total = self.transitions.n_transitions
        if self.position >= self._block_stop or self._block is None:
            self._read_block()
        start = self.position - self._block_start
        self.position = min(self.position + self.batch_size, total)
        batch = select(self._block, slice(start, self.position - self._block_start))
        if self.position == total:
            self._open_epoch(self.epoch + 1, 0)
        return batch

    def skip_epochs(self, count: int) -> None:
        """Begin with the epoch of a number, counted from 0."""
        self._open_epoch(count, 0)

    def state_dict(self) -> dict[str, int]:
        """Where the batches have got to."""
        return {"seed": self.seed, "epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from where `state_dict` was taken.

        Raises:
            InvalidInputError: There were other transitions.
        """
        if not 0 <= int(state["position"]) < self.transitions.n_transitions:
            raise InvalidInputError(
                f"The interrupted run was at transition {state['position']} of its epoch, and these episodes have "
                f"{self.transitions.n_transitions}. Give the same episodes to resume."
            )
        self.seed = int(state["seed"])
        self._open_epoch(int(state["epoch"]), int(state["position"]))

    def _open_epoch(self, epoch: int, position: int) -> None:
        self.epoch, self.position = epoch, position
        self._order = self._block = None
        self._block_start = self._block_stop = 0

    def _read_block(self) -> None:
        if self._order is None:
            self._order = self.transitions.order(np.random.default_rng((self.seed, self.epoch)))
        stop = min(self.position + self._block_size, self.transitions.n_transitions)
        self._block = self._prepare(self._order.read(self.position, stop))
        self._block_start, self._block_stop = self.position, stop
