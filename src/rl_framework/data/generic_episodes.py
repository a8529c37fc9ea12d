"""Episodes as plain dicts, for code that knows nothing of this library."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from rl_framework.data.episode import Episode


def generic_episodes(episodes: Iterable[Episode]) -> Iterator[dict[str, Any]]:
    """Each episode of T steps as a dict, made when it is its turn.

    - `observations`: array or nest of arrays, the last observation included. `[T + 1, ...]`
    - `actions`: likewise. `[T, ...]`
    - `rewards`: floats, or None. `[T]`
    - `terminations`: True at the last step if the task ended there. `[T]`
    - `truncations`: True at the last step if the recording was cut there. `[T]`
    - `infos`: a list of dicts, or None. `[T]`
    """
    return map(_generic_episode, episodes)


def _generic_episode(episode: Episode) -> dict[str, Any]:
    ends = np.zeros((2, len(episode)), np.bool_)
    ends[0, -1], ends[1, -1] = episode.terminated, episode.truncated
    return {
        "observations": episode.observations,
        "actions": episode.actions,
        "rewards": episode.rewards,
        "terminations": ends[0],
        "truncations": ends[1],
        "infos": None if episode.infos is None else list(episode.infos),
    }
