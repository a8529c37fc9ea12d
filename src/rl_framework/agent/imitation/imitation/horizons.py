"""Episodes of different lengths tell a learned reward more than they should: who is told, and who refuses them."""

from __future__ import annotations

import warnings

import numpy as np

from rl_framework.agent.imitation.imitation.rows import AlgorithmRow
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.errors import InvalidInputError

SOURCE = "https://imitation.readthedocs.io/en/latest/getting-started/variable-horizon.html"


def warn_of_horizons(row: AlgorithmRow) -> None:
    """Say once why episodes of different lengths matter, to a user who did not choose."""
    warnings.warn(
        f"{row.name} learns a reward that may be positive everywhere or negative everywhere. Where episodes can end "
        "early, such a reward alone makes an agent survive, or give up, whatever the demonstrations show: results look "
        f"better or worse than what was learned. See {SOURCE}. Give allow_variable_horizon=True to allow it without "
        "this warning, or False to refuse episodes of different lengths.",
        stacklevel=2,
    )


def check_horizons(row: AlgorithmRow, episodes: EpisodeSequence) -> None:
    """Refuse demonstrations of different lengths.

    Raises:
        InvalidInputError: Two of them differ.
    """
    lengths = np.unique(episodes.lengths)
    if len(lengths) > 1:
        raise InvalidInputError(
            f"{row.name} was made with allow_variable_horizon=False, and the demonstrations have between {lengths[0]} "
            f"and {lengths[-1]} steps. Give episodes of one length, or allow_variable_horizon=True. See {SOURCE}."
        )
