"""LeRobot's data sets, version 3.0: Parquet files with a row for each step, and tables of what they hold in `meta/`.

`meta/info.json` lists the columns: `observation.state`, `observation.<part>`, `action`, perhaps `next.reward`, and the
numbers of frame, episode and task. An episode of T rows has T observations and T actions. The layout has no
observation behind the last action, so of a data set by other software the last action of each episode is left out, and
whether the task ended there is not known; a warning says so.

Data sets written here have the last observations, the endings, and the exact types beside LeRobot's files, in
`meta/rl_framework/`: nothing is lost for this library, while other software sees T observations. Pictures are stored as
PNG, LeRobot's own form; other arrays as (nested) lists. Data sets with videos are refused: videos are not decoded.

Source: https://huggingface.co/docs/lerobot/lerobot-dataset-v3 and `lerobot.datasets` of LeRobot 0.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rl_framework.data.episode_source import EpisodeSource
from rl_framework.data.formats.damage import peek_json
from rl_framework.data.formats.optional_packages import require

if TYPE_CHECKING:
    from rl_framework.data.episode_sequence import EpisodeSequence

INFO_FILE = "meta/info.json"


class LeRobotFormat:
    """LeRobot's layout."""

    name = "lerobot"

    def recognises(self, path: Path) -> bool:
        """Whether there is LeRobot's table of columns."""
        info = peek_json(path / INFO_FILE)
        return isinstance(info.get("codebase_version"), str) and isinstance(info.get("features"), dict)

    def locate(self, rest: str) -> Path:
        """The path itself."""
        return Path(rest).expanduser()

    def open(self, path: Path) -> EpisodeSource:
        """Read the tables in `meta/`.

        Raises:
            CorruptArchiveError: A file is missing, truncated, or contradicts another.
            InvalidInputError: It has videos, another version, or no episodes.
            UnsafeArchiveError: It names files outside of its folder.
            MissingExtraError: `pyarrow` is not installed.
        """
        require("Reading LeRobot data sets", "pyarrow")
        from rl_framework.data.formats.lerobot_reader import LeRobotSource

        return LeRobotSource(path)

    def write(self, episodes: EpisodeSequence, path: Path) -> Sequence[str]:
        """Write a new folder, some episodes at a time.

        Raises:
            InvalidInputError: There are none, they differ in their arrays, or hold something else than numbers.
            MissingExtraError: `pyarrow` is not installed, or, for pictures, Pillow.
        """
        require("Writing LeRobot data sets", "pyarrow")
        from rl_framework.data.formats.lerobot_writer import write_lerobot

        return write_lerobot(episodes, path)


FORMAT = LeRobotFormat()
