"""Episodes divided into what fits into a minibatch, and minibatches put together by timesteps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from rl_framework.algorithms.episode_replay import EpisodeRecord
from rl_framework.errors import InvalidInputError
from rl_framework.functional.packed_episodes import GOES_ON, TERMINATED, TRUNCATED
from rl_framework.nn.episode_model import EpisodeModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """An episode, or a part of one that fits into a minibatch.

    Attributes:
        episode: What the model takes.
        record: The whole episode's.
        start: Its first step.
        length: Number of its steps.
        ends: `GOES_ON` where the next piece continues the episode, else `TERMINATED` or `TRUNCATED`.
    """

    episode: Any
    record: EpisodeRecord
    start: int
    length: int
    ends: int

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return f"{self.record.name} from step {self.start}" if self.start else self.record.name


def cut_pieces(model: EpisodeModel, records: Iterable[EpisodeRecord], limit: int | None) -> list[Piece]:
    """All episodes, in order, those that are longer than a minibatch in parts of about the same length.

    Args:
        model: Whose `cut_episode` cuts.
        records: The episodes, of known length.
        limit: Most steps of a piece; None for any number.

    Raises:
        InvalidInputError: An episode is longer, and the model cannot cut.
    """
    return [piece for record in records for piece in _pieces(model, record, limit)]


def groups_of(lengths: Sequence[int], limit: int | None, order: Iterable[int] | None = None) -> list[list[int]]:
    """Pieces put together until there are about as many steps in each group, and never more than the limit.

    Args:
        lengths: Number of steps of each piece, none above the limit.
        limit: Most steps of a group; None for one group of all.
        order: In which pieces are taken; that in which they lie if None.

    Returns:
        The numbers of the pieces of each group.
    """
    pieces = range(len(lengths)) if order is None else order
    total = sum(lengths)
    if limit is None or total <= limit:
        return [list(pieces)] if total else []
    enough = total / math.ceil(total / limit)
    groups: list[list[int]] = [[]]
    size = 0
    for piece in pieces:
        if groups[-1] and (size >= enough or size + lengths[piece] > limit):
            groups.append([])
            size = 0
        groups[-1].append(piece)
        size += lengths[piece]
    return groups


def shuffled(count: int, generator: torch.Generator) -> list[int]:
    """The numbers below a count in random order."""
    order: list[int] = torch.randperm(count, generator=generator).tolist()
    return order


def _pieces(model: EpisodeModel, record: EpisodeRecord, limit: int | None) -> Iterator[Piece]:
    length = record.length or 0
    end = TERMINATED if record.terminated else TRUNCATED
    if limit is None or length <= limit:
        yield Piece(episode=record.episode, record=record, start=0, length=length, ends=end)
        return
    cut = getattr(model, "cut_episode", None)
    if cut is None:
        raise InvalidInputError(
            f"{record.name} has {length} steps, more than the {limit} of minibatch_timesteps, and "
            f"{type(model).__name__} has no method cut_episode(episode, start, stop) to divide it. Write one, or raise "
            "minibatch_timesteps."
        )
    n_pieces = math.ceil(length / limit)
    bounds = [length * at // n_pieces for at in range(n_pieces + 1)]
    for start, stop in pairwise(bounds):
        yield Piece(
            episode=cut(record.episode, start, stop),
            record=record,
            start=start,
            length=stop - start,
            ends=end if stop == length else GOES_ON,
        )
