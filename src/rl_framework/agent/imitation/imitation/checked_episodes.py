"""Demonstrations one by one, each held to what the first one is like."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from rl_framework.core.trees import leaves_with_paths, path_name
from rl_framework.data.episode import Episode
from rl_framework.data.episode_layout import EpisodeLayout, check_same_layout
from rl_framework.data.transition_arrays import check_finite
from rl_framework.errors import InvalidInputError


def checked_episodes(episodes: Iterable[Episode]) -> Iterator[Episode]:
    """The same episodes.

    Raises:
        InvalidInputError: One has other arrays than the first, or a number that is NaN or infinite.
    """
    first: EpisodeLayout | None = None
    for number, episode in enumerate(episodes):
        layout = EpisodeLayout.of(episode)
        first = first or layout
        check_same_layout(first, layout, who=f"Episode {number}")
        check_finite(episode, number)
        _check_last(episode, number)
        yield episode


def _check_last(episode: Episode, number: int) -> None:
    """Also refuse what nobody acted on: these algorithms learn from next observations."""
    for path, leaf in leaves_with_paths(episode.observations):
        if leaf.dtype.kind == "f" and not np.all(np.isfinite(leaf[-1])):
            name = f"observations.{path_name(path)}" if path else "observations"
            raise InvalidInputError(
                f"Episode {number} has a number that is NaN or infinite in {name}, at its last step. Leave the episode "
                "out, or mend it."
            )
