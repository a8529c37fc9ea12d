"""The layout in which the `imitation` library saves trajectories: a data set of Hugging Face `datasets` on disk.

A folder with `state.json`, `dataset_info.json` and Arrow streams; a row is an episode with `obs` `[T + 1, ...]`,
`acts` `[T, ...]`, `infos` (`T` texts), `terminal`, and `rews` `[T]` where there are rewards. The texts in `infos` are
jsonpickle, which runs code when it is decoded: they are never decoded, and written as `{}`.

`terminal` is taken for the ending by the task. The library's own rollouts set it for episodes that a time limit cut,
too, and do not tell the two apart.

Source: `imitation.data.serialize` and `imitation.data.huggingface_utils` of imitation 1.0.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_framework.checkpoints.manifest import check_inside
from rl_framework.data.episode_source import EpisodeSource
from rl_framework.data.formats.damage import peek_json, read_json
from rl_framework.data.formats.optional_packages import require
from rl_framework.errors import CorruptArchiveError, InvalidInputError

if TYPE_CHECKING:
    from rl_framework.data.episode_sequence import EpisodeSequence

STATE_FILE = "state.json"
INFO_FILE = "dataset_info.json"
SPLITS_FILE = "dataset_dict.json"
SCHEMA_BYTES = 2**16


class ImitationArrowFormat:
    """The `imitation` library's layout."""

    name = "imitation"

    def recognises(self, path: Path) -> bool:
        """Whether there is a data set of `datasets` with the columns of a trajectory."""
        if peek_json(path / SPLITS_FILE).get("splits"):
            return True
        try:
            first = data_files(peek_json(path / STATE_FILE), path)[0]
            with first.open("rb") as file:
                schema = file.read(SCHEMA_BYTES)
        except (CorruptArchiveError, InvalidInputError, OSError):
            return False
        return all(name in schema for name in (b"obs", b"acts", b"terminal"))

    def locate(self, rest: str) -> Path:
        """The path itself."""
        return Path(rest).expanduser()

    def open(self, path: Path) -> EpisodeSource:
        """Map the files of a data set.

        Raises:
            CorruptArchiveError: A file is missing, truncated, or holds something else.
            InvalidInputError: It has several splits, holds no episodes, or other columns.
            MissingExtraError: `pyarrow` is not installed.
        """
        require("Reading data sets of the imitation library", "pyarrow")
        from rl_framework.data.formats.imitation_arrow_files import ImitationArrowSource

        splits = peek_json(path / SPLITS_FILE).get("splits")
        if splits:
            raise InvalidInputError(f"{path} holds several data sets; give the path of one of them: {splits}.")
        return ImitationArrowSource(path, data_files(read_json(path / STATE_FILE), path))

    def write(self, episodes: EpisodeSequence, path: Path) -> Sequence[str]:
        """Write a new folder, some episodes at a time.

        Raises:
            InvalidInputError: There are none, they differ in their arrays, or hold something else than numbers.
            MissingExtraError: `pyarrow` is not installed.
        """
        require("Writing data sets for the imitation library", "pyarrow")
        from rl_framework.data.formats.imitation_arrow_files import write_imitation_dataset

        return write_imitation_dataset(episodes, path)


FORMAT = ImitationArrowFormat()


def data_files(state: dict[str, Any], folder: Path) -> list[Path]:
    """The files with the rows, as `state.json` lists them.

    Raises:
        CorruptArchiveError: It lists none.
        InvalidInputError: It selects rows by another file.
        UnsafeArchiveError: A file lies outside of the folder.
    """
    try:
        names = [str(entry["filename"]) for entry in state["_data_files"]]
    except (KeyError, TypeError) as error:
        raise CorruptArchiveError(f"{folder / STATE_FILE} is damaged: it lists no data files.") from error
    if not names:
        raise CorruptArchiveError(f"{folder / STATE_FILE} is damaged: it lists no data files.")
    if state.get("_indices_files"):
        raise InvalidInputError(
            f"{folder} selects its rows by an index file, as old versions of datasets wrote it. Load and save it with "
            "a current version of datasets (`load_from_disk`, `save_to_disk`)."
        )
    for name in names:
        check_inside(name, str(folder / STATE_FILE))
    return [folder / name for name in names]
