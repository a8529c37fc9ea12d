"""Any network that acts as an episode model: it says how likely the recorded actions of whole episodes were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rl_framework.core.trees import Tree, map_tree, select
from rl_framework.errors import InvalidInputError, SpaceError
from rl_framework.nn.episode_layout import IndexArray, SequenceLayout, lay_out, steps_within
from rl_framework.nn.episode_model import EpisodeScores
from rl_framework.nn.episode_policy import ENCODING
from rl_framework.nn.episode_tensors import EpisodeTensors, RecordedEpisode
from rl_framework.nn.model import Model, ModelOutput
from rl_framework.nn.tensors import as_tensor, to_tensors

CHUNK_STEPS = 256


class ModelEpisodes(nn.Module):
    """An `EpisodeModel` for episodes of observations and actions, made of a `Model` that gives encodings.

    Without memory, all observations of all episodes are one batch. With memory, episodes lie one behind the other in
    rows of equal length, and the memory is cleared where one begins: little is padded, and nothing depends on what
    lies beside what. Pieces of episodes begin with the memory of the steps before them, which is rebuilt without
    gradients and in bounded space.

    Args:
        model: Its `encoding_size` tells the size of `extras["encoding"]`, which it gives with each step.
        burn_in: From how many steps before a piece its memory is rebuilt; None for all of them. Attention takes
            no more than it can see.

    Attributes:
        model: The model.
        encoding_size: Number of features of an encoding, d.

    Raises:
        SpaceError: The model has no encodings.
        InvalidInputError: `burn_in` is negative.
    """

    def __init__(self, model: Model, *, burn_in: int | None = None) -> None:
        super().__init__()
        size = getattr(model, "encoding_size", None)
        if not isinstance(size, int):
            raise SpaceError(
                f"{type(model).__name__} gives no state encodings. Give it an attribute encoding_size, and "
                f"extras={{{ENCODING!r}: ...}} of that many features in the ModelOutput of its step; EpisodePolicy has "
                "both."
            )
        if burn_in is not None and burn_in < 0:
            raise InvalidInputError(f"burn_in is a number of steps from 0, or None for all; got {burn_in}.")
        self.model = model
        self.encoding_size = size
        self.burn_in = burn_in

    def prepare(self, episode: RecordedEpisode | EpisodeTensors) -> EpisodeTensors:
        """An episode as it is scored: worth doing once for recordings, which else are translated every time.

        Raises:
            InvalidInputError: It has no observations or no actions.
            SpaceError: It has actions that the action space does not have.
        """
        if isinstance(episode, EpisodeTensors):
            return episode
        if not isinstance(episode, RecordedEpisode):
            raise InvalidInputError(
                f"An episode has observations [T + 1, ...] and actions [T, ...], as rl_framework's Episode; got a "
                f"{type(episode).__name__}."
            )
        device, masks = self.model.device, getattr(episode, "masks", None)
        targets = self.model.targets(map_tree(lambda leaf: as_tensor(leaf).to(device), episode.actions))
        self.model.codec.check(targets)
        return EpisodeTensors(
            observations=to_tensors(episode.observations, device),
            targets=targets,
            masks=None if masks is None else as_tensor(masks).to(device),
        )

    def cut_episode(self, episode: RecordedEpisode | EpisodeTensors, start: int, stop: int) -> EpisodeTensors:
        """The actions from `start` up to, but not with, `stop`, and what is needed to remember what came before.

        Nothing is copied but what has to be translated.
        """
        whole = self.prepare(episode)
        return whole.piece(start, stop, n_past=self._n_past(whole.n_past + start))

    def score_episodes(self, episodes: Sequence[RecordedEpisode | EpisodeTensors]) -> EpisodeScores:
        """Encodings of observations, log-likelihoods of actions and distributions over them; see `EpisodeModel`.

        Args:
            episodes: Recordings, or pieces that `cut_episode` made.
        """
        parts = [self.prepare(episode) for episode in episodes]
        lengths = np.array([len(part) for part in parts], np.int64)
        if self.model.has_memory:
            output, places = self._unrolled(parts, lengths)
        else:
            output, places = self.model.step(_seen(parts), None, _masks(parts)), None
        encodings, acting = self._encodings(output), _acting_rows(lengths)
        if places is not None:
            encodings, acting = encodings.index_select(0, self._index(places)), places[acting]
        distribution = output.distribution.rows(self._index(acting))
        return EpisodeScores(
            encodings=encodings,
            log_prob=distribution.log_prob(_joined([part.targets for part in parts])),
            lengths=tuple(lengths.tolist()),
            distribution=distribution,
        )

    def _unrolled(self, parts: Sequence[EpisodeTensors], lengths: IndexArray) -> tuple[ModelOutput, IndexArray]:
        """What the model says row by row, and where among that the observations of the episodes are. `[S]`"""
        layout = lay_out((lengths + 1).tolist(), [part.n_past > 0 for part in parts])
        sources, shape = self._index(layout.sources), (layout.n_steps, layout.n_rows)
        state, starts = self._first_state(parts, layout)
        masks = _masks(parts)
        output = self.model.unroll(
            _laid_out(_seen(parts), sources, shape),
            state,
            starts,
            None if masks is None else _laid_out(masks, sources, shape),
        )
        return output, layout.places

    def _first_state(self, parts: Sequence[EpisodeTensors], layout: SequenceLayout) -> tuple[Tree, Tensor]:
        """Memory before the first step of each row, and where it is cleared."""
        starts, state = layout.starts, self.model.initial_state(layout.n_rows)
        late = [each for each, part in enumerate(parts) if part.n_past]
        if late:
            rows = layout.rows[late]
            starts[0, rows] = False
            index, remembered = self._index(rows), self._remembered([parts[each] for each in late])
            state = map_tree(lambda fresh, found: fresh.index_copy(0, index, found.to(fresh.dtype)), state, remembered)
        return state, torch.from_numpy(starts).to(self.model.device)

    @torch.no_grad()
    def _remembered(self, parts: Sequence[EpisodeTensors]) -> Tree:
        """Memory after the past of each of some pieces; all pasts end together. `[M, ...]` per leaf"""
        pasts = np.array([part.n_past for part in parts], np.int64)
        state, longest = self.model.initial_state(len(parts)), int(pasts.max())
        for first in range(0, longest, CHUNK_STEPS):
            last = min(first + CHUNK_STEPS, longest)
            steps = np.arange(first, last)[:, None] - (longest - pasts)
            observations = _steps_of(parts, steps, self.model.device)
            state = self.model.remember(observations, state, torch.from_numpy(steps == 0).to(self.model.device))
        return state

    def _n_past(self, n_known: int) -> int:
        """From how many of the steps that are known of before a piece its memory is rebuilt."""
        return min(limit for limit in (n_known, self.burn_in, self.model.memory_reach) if limit is not None)

    def _encodings(self, output: ModelOutput) -> Tensor:
        if ENCODING not in output.extras:
            raise SpaceError(
                f"{type(self.model).__name__} gave no extras[{ENCODING!r}] in the ModelOutput of its step, only "
                f"{sorted(output.extras)}."
            )
        return output.extras[ENCODING]

    def _index(self, numbers: IndexArray) -> Tensor:
        return torch.from_numpy(numbers).to(self.model.device)


def _seen(parts: Sequence[EpisodeTensors]) -> Tree:
    """All observations but those of the past, one behind the other. `[S, ...]` per leaf"""
    return _joined(
        [select(part.observations, slice(part.n_past, None)) if part.n_past else part.observations for part in parts]
    )


def _masks(parts: Sequence[EpisodeTensors]) -> Tensor | None:
    """Allowed choices of all observations, those without an action included, where any choice is masked. `[S, n]`"""
    known = [part.masks for part in parts if part.masks is not None]
    if not known:
        return None
    free = known[0].new_ones(1, known[0].shape[1])
    rows: list[Tensor] = []
    for part in parts:
        rows += [free.expand(len(part), -1) if part.masks is None else part.masks, free]
    return torch.cat(rows)


def _acting_rows(lengths: IndexArray) -> IndexArray:
    """Among the observations of all episodes, those that an action followed. `[N]`"""
    return steps_within(lengths) + np.repeat(np.cumsum(lengths + 1) - (lengths + 1), lengths)


def _laid_out(tree: Tree, sources: Tensor, shape: tuple[int, int]) -> Tree:
    """Packed entries put into their places. `[S, ...]` to `[L, N, ...]` per leaf"""
    return map_tree(lambda leaf: leaf.index_select(0, sources).view(*shape, *leaf.shape[1:]), tree)


def _steps_of(parts: Sequence[EpisodeTensors], steps: IndexArray, device: torch.device) -> Tree:
    """Observations of several episodes side by side; the first of all where a step is negative. `[L, M, ...]` per leaf

    Args:
        parts: M episodes.
        steps: Which of their observations, consecutive ones. `[L, M]`
        device: Where they are.
    """
    first, stop = np.maximum(steps[0], 0), np.maximum(steps[-1] + 1, 1)
    taken = [select(part.observations, slice(low, high)) for part, low, high in zip(parts, first, stop, strict=True)]
    before = np.cumsum(stop - first) - (stop - first)
    sources = np.where(steps < 0, 0, steps - first + before)
    return _laid_out(_joined(taken), torch.from_numpy(sources.reshape(-1)).to(device), steps.shape)


def _joined(trees: Sequence[Tree]) -> Any:
    return trees[0] if len(trees) == 1 else map_tree(lambda *parts: torch.cat(parts), *trees)
