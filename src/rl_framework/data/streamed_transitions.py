"""Transitions of episodes that neither fit into memory nor lie in flat arrays: read in chunks of whole episodes.

The order is random among the episodes, and among the transitions of each chunk.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rl_framework.core.trees import Tree, select
from rl_framework.data.episode_layout import EpisodeLayout
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.data.episode_source import IntArray
from rl_framework.data.transition_arrays import InMemoryTransitions, Pairs, ShuffledNumbers, join_pairs, pair_bytes


class StreamedTransitions:
    """Transitions of episodes that are read again and again, some at a time.

    Args:
        episodes: The episodes.
        layout: Their arrays.
        max_bytes: Memory that the episodes of one chunk may take together; a single episode may be larger.
    """

    def __init__(self, episodes: EpisodeSequence, layout: EpisodeLayout, max_bytes: int) -> None:
        self.episodes = episodes
        self.layout = layout
        self.n_transitions = episodes.n_transitions
        self.bytes_per_transition = pair_bytes(layout)
        self.chunk_size = max(1, max_bytes // max(1, self.bytes_per_transition))

    def order(self, rng: np.random.Generator) -> ChunkedOrder:
        """Episodes in random order, and the transitions of each chunk of them."""
        return ChunkedOrder(self, rng)

    def load(self, indices: IntArray) -> InMemoryTransitions:
        """Some of the episodes, by number."""
        chosen = EpisodeSequence(self.episodes.source, self.episodes.indices[indices])
        return InMemoryTransitions.of(chosen, self.layout, indices.tolist())

    def blocks(self, size: int) -> Iterator[Pairs]:
        """One episode after the other."""
        for number in range(len(self.episodes)):
            yield from self.load(np.array([number])).blocks(size)

    def action_blocks(self, size: int) -> Iterator[Tree]:
        """One episode after the other."""
        for episode in self.episodes:
            for start in range(0, len(episode), size):
                yield select(episode.actions, slice(start, start + size))


class ChunkedOrder:
    """Chunks of whole episodes, of which one is in memory at a time.

    Args:
        transitions: The transitions.
        rng: Draws the order of the episodes, and a seed for the order in each chunk.
    """

    def __init__(self, transitions: StreamedTransitions, rng: np.random.Generator) -> None:
        self._transitions = transitions
        self._episodes: IntArray = rng.permutation(len(transitions.episodes))
        self._seed = int(rng.integers(2**63))
        ends = np.cumsum(transitions.episodes.lengths[self._episodes])
        self._cuts = _cut(ends, transitions.chunk_size)
        self._starts: IntArray = np.concatenate(([0], ends[self._cuts[1:] - 1]))
        self._chunk: tuple[int, ShuffledNumbers] | None = None

    def read(self, start: int, stop: int) -> Pairs:
        """Those at some positions of the order; quick as long as the positions rise from call to call."""
        parts = []
        while start < stop:
            number = int(np.searchsorted(self._starts, start, side="right")) - 1
            first, last = int(self._starts[number]), min(stop, int(self._starts[number + 1]))
            parts.append(self._load(number).read(start - first, last - first))
            start = last
        return parts[0] if len(parts) == 1 else join_pairs(parts)

    def _load(self, number: int) -> ShuffledNumbers:
        if self._chunk is None or self._chunk[0] != number:
            self._chunk = None  # its memory is free before the next one takes some
            episodes = self._episodes[self._cuts[number] : self._cuts[number + 1]]
            rng = np.random.default_rng((self._seed, number))
            self._chunk = (number, self._transitions.load(episodes).order(rng))
        return self._chunk[1]


def _cut(ends: IntArray, size: int) -> IntArray:
    """Where to cut a row of episodes so that no part has more than `size` steps, unless it is a single episode.

    Args:
        ends: Sums of the lengths up to each episode. `[N]`
        size: Steps of a part.

    Returns:
        First episode of each part, and behind them N.
    """
    cuts = [0]
    while cuts[-1] < len(ends):
        done = int(ends[cuts[-1] - 1]) if cuts[-1] else 0
        following = int(np.searchsorted(ends, done + size, side="right"))
        cuts.append(max(following, cuts[-1] + 1))
    return np.array(cuts, np.int64)
