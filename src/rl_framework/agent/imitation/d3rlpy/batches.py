"""Recorded episodes as d3rlpy's mini-batches, drawn by a generator whose state can be saved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rl_framework.agent.imitation.d3rlpy.translation import Translation
from rl_framework.compat.d3rlpy import import_d3rlpy
from rl_framework.data.episode import Episode
from rl_framework.errors import InvalidInputError


class Batches:
    """Draws transitions, or stretches of episodes, with d3rlpy's own picker and slicer.

    Episodes keep their number types, and those of a memory-mapped data set stay on disk until they are drawn. d3rlpy
    knows no observation after the last action, so the last step of an episode that was cut cannot be learned from.

    Args:
        episodes: What was recorded.
        translation: Between their spaces and d3rlpy.
        rng: What draws.

    Attributes:
        rng: What draws; its state decides all further batches.

    Raises:
        InvalidInputError: There is nothing to draw.
    """

    def __init__(self, episodes: Sequence[Episode], translation: Translation, rng: np.random.Generator) -> None:
        dataset = import_d3rlpy().dataset
        self.rng = rng
        self.episodes = [_translate(episode, translation) for episode in episodes]
        self.transition_picker = dataset.BasicTransitionPicker()
        self.trajectory_slicer = dataset.BasicTrajectorySlicer()
        counts = np.array([episode.transition_count for episode in self.episodes], dtype=np.int64)
        self._ends = np.cumsum(counts)
        self._starts = self._ends - counts
        if not counts.any():
            raise InvalidInputError(
                "These episodes have no transition to learn from: every one of them is a single step that was cut. "
                "d3rlpy learns from steps that end their task or are followed by another step."
            )

    def transitions(self, batch_size: int) -> Any:
        """A batch of transitions."""
        return import_d3rlpy().dataset.TransitionMiniBatch.from_transitions(
            [self.transition_picker(*place) for place in self._draw(batch_size)]
        )

    def stretches(self, batch_size: int, length: int) -> Any:
        """A batch of stretches of episodes, each ending at a drawn step, with zeros before an episode's start."""
        return import_d3rlpy().dataset.TrajectoryMiniBatch.from_partial_trajectories(
            [self.trajectory_slicer(*place, length) for place in self._draw(batch_size)]
        )

    def _draw(self, count: int) -> list[tuple[Any, int]]:
        """Episodes with steps in them, each transition as likely as any other."""
        numbers = self.rng.integers(self._ends[-1], size=count)
        which = np.searchsorted(self._ends, numbers, side="right")
        steps = numbers - self._starts[which]
        return [(self.episodes[episode], int(step)) for episode, step in zip(which, steps, strict=True)]


def _translate(episode: Episode, translation: Translation) -> Any:
    steps = len(episode)
    rewards = np.zeros(steps, dtype=np.float32) if episode.rewards is None else episode.rewards
    return import_d3rlpy().dataset.Episode(
        observations=translation.observations(episode.observations)[:steps],
        actions=translation.recorded_actions(episode.actions),
        rewards=rewards.reshape(-1, 1),
        terminated=episode.terminated,
    )
