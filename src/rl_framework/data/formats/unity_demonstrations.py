"""Unity's recordings of demonstrations: a `.demo` file of one agent, or a folder of such files.

A file is written by the `DemonstrationRecorder` of ML-Agents: what is known of the whole in the first 33 bytes, the
behaviour's actions, and a message for each decision and for each episode's end. A decision's reward was earned since
the one before it, so an episode's first belongs to no action and is dropped. An episode that was interrupted, or that
the recording leaves open, counts as cut. Group rewards are added to the agent's own.

Unity writes a message before the decision is made, and thus with the action that *led to* it; an episode's first
message holds zeros. Files of other programs often hold the action that *follows*, which is how `mlagents-learn` reads
them all. A file is read in Unity's way unless an episode's first message holds an action.

Observations and actions have the spaces that the game itself gives: see `core.unity_spaces`. Files are read alone;
they cannot hold what other data sets do.

Sources: `DemonstrationWriter.cs` and `Agent.cs` of Unity's package com.unity.ml-agents, `demonstration_meta.proto` and
`agent_info_action_pair.proto` of mlagents-envs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rl_framework.data.episode_source import EpisodeSource
from rl_framework.errors import InvalidInputError

if TYPE_CHECKING:
    from rl_framework.data.episode_sequence import EpisodeSequence

SUFFIX = ".demo"
PARAMETERS_AT = 33
"""Where the behaviour's actions begin, whatever the length of what lies before."""
HEADER_TAGS = (0x08, 0x12, 0x18, 0x20, 0x2D)
"""The first bytes that a header's fields can have: version, name, steps, episodes, mean return."""


class UnityDemonstrations:
    """Recordings of Unity's agents."""

    name = "unity"

    def recognises(self, path: Path) -> bool:
        """Whether it is a `.demo` file that begins as they do, or a folder with one."""
        try:
            files = demonstration_files(path)
            return bool(files) and all(map(_begins_well, files))
        except OSError:
            return False

    def locate(self, rest: str) -> Path:
        """The path itself."""
        return Path(rest).expanduser()

    def open(self, path: Path) -> EpisodeSource:
        """Find the episodes in the files.

        Raises:
            CorruptArchiveError: A file is truncated or damaged.
            NewerFormatError: A newer version of ML-Agents wrote it.
            InvalidInputError: There are no episodes.
            SpaceError: The files differ in what the agent sees or does.
            MissingExtraError: mlagents-envs, which knows the messages, is not installed.
        """
        from rl_framework.data.formats.unity_recordings import UnityDemonstrationSource

        return UnityDemonstrationSource(path)

    def write(self, episodes: EpisodeSequence, path: Path) -> Sequence[str]:
        """Refuse: the form is Unity's own.

        Raises:
            InvalidInputError: Always.
        """
        del episodes
        raise InvalidInputError(f"Unity demonstrations are read alone; save {path} in another format, or name none.")


def demonstration_files(path: Path) -> list[Path]:
    """The `.demo` files that a path stands for, by name."""
    if path.is_dir():
        return sorted(one for one in path.iterdir() if one.suffix == SUFFIX and one.is_file())
    return [path] if path.suffix == SUFFIX else []


def _begins_well(file: Path) -> bool:
    with file.open("rb") as stream:
        start = stream.read(PARAMETERS_AT + 1)
    return len(start) > PARAMETERS_AT and 0 < start[0] < PARAMETERS_AT and start[1] in HEADER_TAGS


FORMAT = UnityDemonstrations()
