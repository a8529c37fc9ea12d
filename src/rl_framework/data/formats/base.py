"""What a form of storage has to offer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rl_framework.data.episode_source import EpisodeSource

if TYPE_CHECKING:
    from rl_framework.data.episode_sequence import EpisodeSequence


class EpisodeFormat(Protocol):
    """One form in which episodes are stored in a file or a folder.

    Attributes:
        name: Its name in `save(path, format=...)`, and the scheme in `from_dataset("name://...")`.
    """

    name: str

    def recognises(self, path: Path) -> bool:
        """Whether what lies at an existing path has this form.

        It looks at the content, is cheap, runs nothing that it finds, and never raises.
        """
        ...

    def locate(self, rest: str) -> Path:
        """The local path that `rest` means in `"name://rest"`; nothing has to be there."""
        ...

    def open(self, path: Path) -> EpisodeSource:
        """The episodes at a path, without reading them.

        Raises:
            CorruptArchiveError: It is truncated or contradicts itself.
            NewerFormatError: Only newer software reads it.
            UnsafeArchiveError: It could only be read by running code in it; nothing of it was run.
            MissingExtraError: A package that reads it is not installed.
        """
        ...

    def write(self, episodes: EpisodeSequence, path: Path) -> Sequence[str]:
        """Write episodes to a path at which nothing is yet; the caller puts it into place in one step.

        Returns:
            What this form could not carry, one sentence each.

        Raises:
            InvalidInputError: It cannot hold these episodes at all; the message says why.
            MissingExtraError: A package that writes it is not installed.
        """
        ...
