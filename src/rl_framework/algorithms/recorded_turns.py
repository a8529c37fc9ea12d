"""Recorded episodes in turns: so many at a time as an update learns from, read when their turn comes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from rl_framework.algorithms.episode_pieces import groups_of
from rl_framework.core.trees import leaves_with_paths, path_name
from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.data.episode_source import IntArray
from rl_framework.errors import InvalidInputError


class RecordedTurns:
    """Turns without end: each epoch goes through all recorded episodes once, in an order of its own.

    Turns depend on the seed, the epoch and the number of the turn alone, so that these three are the whole state. What
    is in a turn is read when it is taken; of all other episodes only the lengths are known.

    Args:
        episodes: The recordings, with rewards.
        limit: Most steps of a turn. All episodes are one turn if they have no more than that together.
        longest: Longer episodes are divided into parts of about the same length; None for `limit`, which no part may
            exceed.
        seed: From which the order of every epoch is derived.

    Attributes:
        epoch: Number of epochs that are complete.
        turn: Number of turns that were taken in the present epoch.

    Raises:
        InvalidInputError: There are no recordings, or they have no rewards.
    """

    def __init__(self, episodes: EpisodeSequence, *, limit: int, longest: int | None, seed: int) -> None:
        if not len(episodes) or not episodes.has_rewards:
            raise InvalidInputError("Expected at least one recorded episode, with rewards.")
        self.seed = seed
        self.epoch = self.turn = 0
        self._episodes = episodes
        self._limit = limit
        self._numbers, self._starts, self._stops = _parts(episodes.lengths, min(limit, longest or limit))
        self._turns: list[list[int]] | None = None

    def __iter__(self) -> Iterator[dict[int, Episode]]:
        return self

    def __next__(self) -> dict[int, Episode]:
        """What is learned from next: each part under its number, which is the same in every epoch.

        Raises:
            InvalidInputError: An episode holds NaN or an infinite number, or no rewards; it is named.
        """
        taken = self._present()[self.turn]
        self.skip()
        return {part: self._read(part) for part in taken}

    @property
    def n_parts(self) -> int:
        """Number of episodes, or of their parts where they are divided."""
        return len(self._numbers)

    @property
    def n_transitions(self) -> int:
        """Steps of all recordings together."""
        return int((self._stops - self._starts).sum())

    @property
    def is_single(self) -> bool:
        """Whether each epoch is one turn, the same every time."""
        return self.n_transitions <= self._limit

    @property
    def epochs(self) -> float:
        """How often all recordings were taken, with the share of the present epoch."""
        return self.epoch + (self.turn / len(self._present()) if self.turn else 0.0)

    def skip(self) -> None:
        """Go on to the next turn without reading this one."""
        self.turn += 1
        if self.turn == len(self._present()):
            self.epoch, self.turn, self._turns = self.epoch + 1, 0, None

    def state_dict(self) -> dict[str, int]:
        """Which turn is next."""
        return {"seed": self.seed, "epoch": self.epoch, "turn": self.turn, "n_transitions": self.n_transitions}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from where `state_dict` was taken.

        Raises:
            InvalidInputError: There were other recordings, or turns of another size.
        """
        self.seed, self.epoch, self.turn, self._turns = state["seed"], state["epoch"], state["turn"], None
        if state["n_transitions"] != self.n_transitions or self.turn >= len(self._present()):
            raise InvalidInputError(
                f"The interrupted run was at turn {self.turn} of {state['n_transitions']} transitions; these episodes "
                f"have {self.n_transitions}, in {len(self._present())} turns. Give the same episodes to resume."
            )

    def _present(self) -> list[list[int]]:
        """Numbers of the parts of each turn of the present epoch."""
        if self._turns is None:
            lengths = (self._stops - self._starts).tolist()
            order = None if self.is_single else np.random.default_rng((self.seed, self.epoch)).permutation(len(lengths))
            self._turns = groups_of(lengths, self._limit, None if order is None else order.tolist())
        return self._turns

    def _read(self, part: int) -> Episode:
        number, start, stop = (int(numbers[part]) for numbers in (self._numbers, self._starts, self._stops))
        whole = self._episodes[number]
        episode = whole if stop - start == len(whole) else whole[start:stop]
        _check_finite(episode, number, start)
        return episode


def _parts(lengths: IntArray, longest: int) -> tuple[IntArray, IntArray, IntArray]:
    """Episode, first step and the step behind the last of each part. `[P]` each"""
    counts = -(-lengths // longest)
    numbers = np.repeat(np.arange(len(lengths)), counts)
    places = np.arange(len(numbers)) - np.repeat(np.cumsum(counts) - counts, counts)
    whole, count = lengths[numbers], counts[numbers]
    return numbers, whole * places // count, whole * (places + 1) // count


def _check_finite(episode: Episode, number: int, start: int) -> None:
    """Refuse NaN and infinite numbers, and missing rewards, in an episode, or in its part from a step on."""
    if episode.rewards is None:
        raise InvalidInputError(f"Episode {number} was recorded without rewards; leave it out by sequence.filter(...).")
    recorded = {"observations": episode.observations, "actions": episode.actions, "rewards": episode.rewards}
    for path, leaf in leaves_with_paths(recorded):
        if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
            step = start + int((~np.isfinite(leaf)).reshape(len(leaf), -1).any(1).argmax())
            raise InvalidInputError(
                f"{path_name(path)} of episode {number} holds NaN or an infinite number at step {step}; a network "
                "cannot learn from it. Leave such episodes out with sequence.filter(...), or mend them with "
                "sequence.map(...)."
            )
