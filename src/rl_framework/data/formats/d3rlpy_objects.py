"""Episodes as the episode objects of `d3rlpy`.

d3rlpy has no place for the observation behind the last action. Where the task ended nothing is learned from it; where
the episode was cut, d3rlpy learns nothing from the last step.

Source: `d3rlpy.dataset.components` of d3rlpy 2.8.1.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from rl_framework.compat.d3rlpy import import_d3rlpy
from rl_framework.core.trees import Tree, map_tree
from rl_framework.data.episode import Episode
from rl_framework.errors import InvalidInputError, LossyConversionWarning

if TYPE_CHECKING:
    from rl_framework.data.episode_sequence import EpisodeSequence


def to_d3rlpy(episodes: EpisodeSequence) -> list[Any]:
    """The episodes as `d3rlpy.dataset.Episode`; number types stay as they are.

    Rewards become a column `[T, 1]`, as do actions that are single numbers; tuples of observations become lists.

    Raises:
        InvalidInputError: There are no rewards, observations are dicts, or actions are no arrays.
        MissingExtraError: d3rlpy is not installed.
    """
    make = import_d3rlpy().dataset.Episode
    made = [_to_episode(make, number, episode) for number, episode in enumerate(episodes)]
    cut = sum(not one.terminated for one in made)
    warnings.warn(
        f"d3rlpy has no observation behind the last action: that of each of {len(made)} episodes is left out, and of "
        f"{cut} that were cut the last step is not learned from.",
        LossyConversionWarning,
        stacklevel=3,
    )
    if any(episode.infos is not None for episode in episodes[:1]):
        warnings.warn("The infos are left out: d3rlpy has no place for them.", LossyConversionWarning, stacklevel=3)
    return made


def _to_episode(make: Any, number: int, episode: Episode) -> Any:
    if episode.rewards is None:
        raise InvalidInputError(f"Episode {number} has no rewards, which d3rlpy needs. Add them with sequence.map.")
    if not isinstance(episode.actions, np.ndarray):
        raise InvalidInputError(
            f"The actions of episode {number} are a {type(episode.actions).__name__}; d3rlpy takes arrays. Flatten "
            "them with sequence.map."
        )
    return make(
        observations=_observations(number, episode.observations),
        actions=episode.actions[:, None] if episode.actions.ndim == 1 else episode.actions,
        rewards=episode.rewards[:, None],
        terminated=episode.terminated,
    )


def _observations(number: int, observations: Tree) -> Any:
    before = map_tree(_column, observations)
    if isinstance(before, np.ndarray):
        return before
    if isinstance(before, tuple) and all(isinstance(part, np.ndarray) for part in before):
        return list(before)
    raise InvalidInputError(
        f"The observations of episode {number} are a dict or nested; d3rlpy takes arrays and tuples of arrays. Flatten "
        "them with sequence.map."
    )


def _column(observations: np.ndarray) -> np.ndarray:
    """All but the last observation; single numbers become vectors of one."""
    before = observations[:-1]
    return before[:, None] if before.ndim == 1 else before
