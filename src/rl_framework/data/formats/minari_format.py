"""Minari data sets: a folder with `data/metadata.json` and the episodes, either in one HDF5 file or in Arrow files.

An episode has `observations` `[T + 1, ...]`, `actions`, `rewards`, `terminations` and `truncations` `[T]`. Minari's
infos are not read. Pictures that Minari stored as JPEG are decoded; written here, they are stored as they are.

Source: `minari.dataset` of Minari 0.5.4 (https://minari.farama.org/content/dataset_standards/).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rl_framework.data.episode_source import EpisodeSource
from rl_framework.data.formats.damage import peek_json, read_json
from rl_framework.data.formats.foreign_notes import EpisodeStream
from rl_framework.data.formats.minari_metadata import METADATA_FILE, data_folder, data_set_path, write_metadata
from rl_framework.data.formats.optional_packages import require
from rl_framework.errors import InvalidInputError

if TYPE_CHECKING:
    from rl_framework.data.episode_sequence import EpisodeSequence

PACKAGES = {"hdf5": "h5py", "arrow": "pyarrow", "parquet": "pyarrow"}


@dataclass(frozen=True, slots=True)
class MinariFormat:
    """Minari's layout with its data in one of its forms; either reads them all.

    Attributes:
        name: The format's name.
        data_format: What it writes, `"hdf5"` or `"arrow"`.
    """

    name: str
    data_format: str

    def recognises(self, path: Path) -> bool:
        """Whether there are Minari's metadata, with data in this form."""
        try:
            form = peek_json(data_folder(path) / METADATA_FILE).get("data_format")
        except OSError:
            return False
        return form == self.data_format or (form == "parquet" and self.data_format == "arrow")

    def locate(self, rest: str) -> Path:
        """An id means Minari's local folder; a path is absolute or begins with a dot."""
        return data_set_path(rest)

    def open(self, path: Path) -> EpisodeSource:
        """Read the metadata.

        Raises:
            CorruptArchiveError: They are missing or damaged.
            InvalidInputError: There are no episodes, or the data have a form that this library does not know.
            SpaceError: A space is of a kind that is not supported.
            MissingExtraError: The package that reads the data is not installed.
        """
        folder = data_folder(path)
        form = read_json(folder / METADATA_FILE).get("data_format")
        if form not in PACKAGES:
            raise InvalidInputError(f"{folder} holds data in the form {form!r}; known are {', '.join(PACKAGES)}.")
        require("Reading Minari data sets", PACKAGES[form])
        if form == "hdf5":
            from rl_framework.data.formats.minari_hdf5 import MinariHdf5Source

            return MinariHdf5Source(folder)
        from rl_framework.data.formats.minari_arrow import MinariArrowSource

        return MinariArrowSource(folder)

    def write(self, episodes: EpisodeSequence, path: Path) -> Sequence[str]:
        """Write a new folder, one episode at a time.

        Raises:
            InvalidInputError: There are none, they have no rewards, differ in their arrays, or hold no numbers.
            MissingExtraError: The package that writes the data is not installed.
        """
        require("Writing Minari data sets", PACKAGES[self.data_format])
        stream = EpisodeStream(episodes, "Minari")
        stream.require_rewards()
        (path / "data").mkdir(parents=True)
        self._write_data(stream, episodes, path / "data")
        lost = write_metadata(stream, episodes, path, self.data_format)
        return [*lost, *stream.lost]

    def _write_data(self, stream: EpisodeStream, episodes: EpisodeSequence, folder: Path) -> None:
        if self.data_format == "hdf5":
            from rl_framework.data.formats.minari_hdf5 import write_minari_hdf5

            write_minari_hdf5(stream, folder)
            return
        from rl_framework.data.formats.minari_arrow import write_minari_arrow

        write_minari_arrow(stream, episodes, folder)


HDF5 = MinariFormat("minari", "hdf5")
ARROW = MinariFormat("minari_arrow", "arrow")
