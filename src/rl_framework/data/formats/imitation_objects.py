"""Episodes as the trajectory objects of the `imitation` library, and back.

Arrays are handed over as they are: float32 stays float32, nothing is copied, and, as everywhere, they cannot be
written to. `terminal` is true where the task ended; the library's own rollouts also set it where a time limit cut the
episode.

Source: `imitation.data.types` of imitation 1.0.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rl_framework.compat.installation import missing
from rl_framework.core.trees import Tree
from rl_framework.data.episode import Episode
from rl_framework.errors import InvalidInputError

if TYPE_CHECKING:
    from rl_framework.data.episode_sequence import EpisodeSequence


def to_imitation(episodes: EpisodeSequence) -> list[Any]:
    """The episodes as `TrajectoryWithRew`, or `Trajectory` where there are no rewards.

    Dict observations become `DictObs`.

    Raises:
        InvalidInputError: Observations are tuples or nested dicts, or actions are no arrays.
        MissingExtraError: The library is not installed.
    """
    types = _types()
    return [_to_trajectory(types, number, episode) for number, episode in enumerate(episodes)]


def from_imitation(trajectory: Any) -> Episode:
    """A trajectory as an episode.

    Infos are taken over if they are dicts in memory; those that the library would decode only now are left out,
    because decoding them runs code.

    Raises:
        InvalidInputError: The arrays make no episode.
    """
    infos = trajectory.infos
    is_plain = isinstance(infos, (np.ndarray, list, tuple)) and all(isinstance(info, Mapping) for info in infos)
    rewards = getattr(trajectory, "rews", None)
    unwrap = getattr(trajectory.obs, "unwrap", None)
    return Episode(
        observations=trajectory.obs if unwrap is None else unwrap(),
        actions=trajectory.acts,
        rewards=None if rewards is None else _floats(np.asarray(rewards)),
        terminated=bool(trajectory.terminal),
        infos=tuple(infos) if is_plain else None,
    )


def _types() -> Any:
    try:
        from imitation.data import types
    except ImportError as error:
        raise missing("Converting episodes for the imitation library", "imitation") from error
    return types


def _to_trajectory(types: Any, number: int, episode: Episode) -> Any:
    if not isinstance(episode.actions, np.ndarray):
        raise InvalidInputError(
            f"The actions of episode {number} are a {type(episode.actions).__name__}; the imitation library takes "
            "arrays. Flatten them with sequence.map."
        )
    fields = {
        "obs": _observations(types, number, episode.observations),
        "acts": episode.actions,
        "infos": _infos(episode.infos),
        "terminal": episode.terminated,
    }
    if episode.rewards is None:
        return types.Trajectory(**fields)
    return types.TrajectoryWithRew(**fields, rews=episode.rewards)


def _observations(types: Any, number: int, observations: Tree) -> Any:
    if isinstance(observations, np.ndarray):
        return observations
    if isinstance(observations, dict) and all(isinstance(part, np.ndarray) for part in observations.values()):
        return types.DictObs(dict(observations))
    raise InvalidInputError(
        f"The observations of episode {number} are a tuple or a nested dict; the imitation library takes arrays and "
        "dicts of arrays. Flatten them with sequence.map."
    )


def _infos(infos: Sequence[Mapping[str, Any]] | None) -> np.ndarray | None:
    if infos is None:
        return None
    made = np.empty(len(infos), dtype=object)
    made[:] = [dict(info) for info in infos]
    return made


def _floats(rewards: np.ndarray) -> np.ndarray:
    return rewards if rewards.dtype.kind == "f" else rewards.astype(np.float64)
