"""Whether episodes belong to given spaces, and which spaces they say they belong to."""

from __future__ import annotations

from itertools import islice
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rl_framework.core.spaces import leaf_shape, leaf_spaces
from rl_framework.core.trees import Path, Tree, leaves_with_paths, path_name
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.errors import InvalidInputError, SpaceError

Space = gym.Space[Any]

N_CHECKED = 8
"""So many episodes are looked at: cheap, and a data set of another task shows in its first one."""


def check_episodes_fit(
    sequence: EpisodeSequence, observation_space: Space, action_space: Space, *, who: str = "the environments"
) -> None:
    """Refuse episodes that were not recorded with given spaces.

    Compared are the structure, the shapes, the kinds of numbers and the choices of discrete parts; bounds of Box
    spaces may differ. The arrays and discrete values of the first few episodes are looked at, too.

    Args:
        sequence: The episodes.
        observation_space: Space of one observation.
        action_space: Space of one action.
        who: Whose spaces they are, for the message.

    Raises:
        SpaceError: They do not fit; the message names the field.
    """
    told = (("observation", sequence.observation_space, observation_space),)
    for role, given, expected in (*told, ("action", sequence.action_space, action_space)):
        if given is not None:
            _check_spaces_fit(expected, given, role, who)
    for number, episode in enumerate(islice(sequence, N_CHECKED)):
        _check_arrays_fit(observation_space, episode.observations, f"observations of episode {number}", who)
        _check_arrays_fit(action_space, episode.actions, f"actions of episode {number}", who)


def spaces_of(sequence: EpisodeSequence) -> tuple[Space, Space]:
    """The observation and the action space that a sequence tells.

    Raises:
        InvalidInputError: It does not tell them.
    """
    for role in ("observation", "action"):
        if getattr(sequence, f"{role}_space") is None:
            raise InvalidInputError(
                f"The data set does not tell its {role} space. Give training_environments, which tell it, or give "
                "observation_space and action_space where the episodes are made."
            )
    return sequence.observation_space, sequence.action_space  # type: ignore[return-value]  # not None, as just seen


def _check_spaces_fit(expected: Space, given: Space, role: str, who: str) -> None:
    ours, theirs = dict(leaf_spaces(expected)), dict(leaf_spaces(given))
    _check_parts(ours, theirs, f"{role}s", who)
    for path, leaf in ours.items():
        if not _is_alike(leaf, theirs[path]):
            raise SpaceError(
                f"The {role} space of the episodes does not fit that of {who}: {path_name(path)!r} is {theirs[path]}, "
                f"expected {leaf}."
            )


def _is_alike(ours: Space, theirs: Space) -> bool:
    """Equal, but for the bounds of a Box and the width of its numbers."""
    if isinstance(ours, spaces.Box) and isinstance(theirs, spaces.Box):
        return ours.shape == theirs.shape and _kind(ours.dtype) == _kind(theirs.dtype)
    match ours, theirs:
        case spaces.Discrete(), spaces.Discrete():
            return bool(ours.n == theirs.n and ours.start == theirs.start)
        case spaces.MultiDiscrete(), spaces.MultiDiscrete():
            return np.array_equal(ours.nvec, theirs.nvec) and np.array_equal(ours.start, theirs.start)
        case _:
            return ours == theirs


def _check_arrays_fit(space: Space, tree: Tree, field: str, who: str) -> None:
    ours, theirs = dict(leaf_spaces(space)), dict(leaves_with_paths(tree))
    _check_parts(ours, theirs, field, who)
    for path, leaf in ours.items():
        problem = _problem(leaf, theirs[path])
        if problem is not None:
            raise SpaceError(f"The {field} do not fit {who}: {path_name(path)!r} {problem}, expected {leaf}.")


def _check_parts(ours: dict[Path, Any], theirs: dict[Path, Any], field: str, who: str) -> None:
    for path in ours:
        if path not in theirs:
            have = [path_name(part) for part in theirs]
            raise SpaceError(f"The {field} do not fit {who}: {path_name(path)!r} is missing; there are {have}.")
    extra = [path for path in theirs if path not in ours]
    if extra:
        raise SpaceError(f"The {field} do not fit {who}: {path_name(extra[0])!r} is not expected.")


def _problem(leaf: Space, array: np.ndarray) -> str | None:
    """What is wrong with the entries of an array, None if nothing is. `[n, ...]`"""
    if array.shape[1:] != leaf_shape(leaf):
        return f"has the shape {array.shape[1:]}"
    if isinstance(leaf, spaces.Box):
        return None if _kind(array.dtype) == _kind(leaf.dtype) else f"is {array.dtype}"
    if _kind(array.dtype) != "whole numbers":
        return f"is {array.dtype}"
    low, high = _choices(leaf)
    outside = (array < low) | (array > high)
    return f"has the value {array[outside][0]}" if outside.any() else None


def _choices(leaf: Space) -> tuple[Any, Any]:
    """Lowest and highest value of a discrete leaf space, both inclusive."""
    match leaf:
        case spaces.Discrete():
            return int(leaf.start), int(leaf.start + leaf.n - 1)
        case spaces.MultiDiscrete():
            return leaf.start, leaf.start + leaf.nvec - 1
        case _:
            return 0, 1


def _kind(dtype: Any) -> str:
    return "whole numbers" if np.dtype(dtype).kind in "biu" else np.dtype(dtype).kind
