"""D4RL's layout: one HDF5 file with the steps of all episodes, one after the other.

`observations`, `actions`, `rewards`, `terminals` (the task ended) and `timeouts` (the episode was cut), each
`[steps, ...]`; an episode goes up to a step with either flag. The layout has no place for the last observation of an
episode, except where there are `next_observations`. Without them,

- an episode that was cut loses its last step, since the observation before it is the last one known;
- an episode that the task ended keeps all steps and gets its last observation twice: nothing is learned from what lies
  behind an ending, while the reward for it would be lost.

A warning says how many episodes that concerns. Files written here have `next_observations`, or, where observations
are pictures, `final_observations` `[N, ...]`, which do not double the size of the file; other software does not know
these, nor the group for each part of observations that are dicts or tuples.

Source: https://github.com/Farama-Foundation/D4RL/wiki/Tasks and `d4rl.offline_env`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rl_framework.data.episode_source import EpisodeSource
from rl_framework.data.formats.optional_packages import require
from rl_framework.errors import MissingExtraError

if TYPE_CHECKING:
    from rl_framework.data.episode_sequence import EpisodeSequence

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


class D4RLFormat:
    """D4RL's layout."""

    name = "d4rl"

    def recognises(self, path: Path) -> bool:
        """Whether it is an HDF5 file with D4RL's arrays.

        Where the package that reads HDF5 is missing, every HDF5 file may be one.
        """
        try:
            with path.open("rb") as file:
                if file.read(len(HDF5_MAGIC)) != HDF5_MAGIC:
                    return False
            require("Reading D4RL data sets", "h5py")
        except OSError:
            return False
        except MissingExtraError:
            return True
        from rl_framework.data.formats.d4rl_file import has_fields

        return has_fields(path)

    def locate(self, rest: str) -> Path:
        """The path itself."""
        return Path(rest).expanduser()

    def open(self, path: Path) -> EpisodeSource:
        """Read where episodes end.

        Raises:
            CorruptArchiveError: The file is truncated, or its arrays disagree.
            InvalidInputError: There are no episodes.
            UnsafeArchiveError: Numbers lie in another file, or are objects.
            MissingExtraError: `h5py` is not installed.
        """
        require("Reading D4RL data sets", "h5py")
        from rl_framework.data.formats.d4rl_file import D4RLSource

        return D4RLSource(path)

    def write(self, episodes: EpisodeSequence, path: Path) -> Sequence[str]:
        """Write a new file, one episode at a time.

        Raises:
            InvalidInputError: There are none, they have no rewards, differ in their arrays, or hold no numbers.
            MissingExtraError: `h5py` is not installed.
        """
        require("Writing D4RL data sets", "h5py")
        from rl_framework.data.formats.d4rl_file import write_d4rl

        return write_d4rl(episodes, path)


FORMAT = D4RLFormat()
