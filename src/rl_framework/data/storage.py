"""Data sets on disk: opened by what they hold, saved in one step, streamed into while they are made."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_framework.checkpoints.archive import existing_archive, replace_in_one_step
from rl_framework.checkpoints.file_system import shared_lock
from rl_framework.data.episode import Episode
from rl_framework.data.episode_source import EpisodeSource
from rl_framework.data.formats.memory_mapped import MemoryMappedSource
from rl_framework.data.formats.memory_mapped_table import TABLE_FILE, DatasetTable
from rl_framework.data.formats.memory_mapped_writer import write_episodes
from rl_framework.data.formats.registry import (
    DEFAULT_FORMAT,
    find_format,
    format_named,
    recognised_format,
    split_scheme,
)
from rl_framework.errors import ArchiveError, InvalidInputError, LossyConversionWarning, RLFrameworkError

if TYPE_CHECKING:
    from rl_framework.data.episode_sequence import EpisodeSequence

DATA_ENDINGS = (".arrow", ".h5", ".hdf5", ".json", ".jsonl", ".mp4", ".npy", ".npz", ".parquet")
"""Files with these endings in a replaced data set were part of it; others (a README) are kept."""


def open_dataset(path_or_uri: str | Path) -> EpisodeSource:
    """The episodes of a data set, in whatever form it is; see `EpisodeSequence.from_dataset`."""
    scheme, rest = split_scheme(str(path_or_uri))
    named = None if scheme is None else format_named(scheme)
    wanted = Path(rest) if named is None else named.locate(rest)
    path = existing_archive(wanted, what="data set", is_whole=_is_data_set)
    with shared_lock(path):
        source = (named or find_format(path)).open(path)
    if not len(source.lengths):
        raise InvalidInputError(f"The data set {path} holds no episodes.")
    return source


def save_dataset(episodes: EpisodeSequence, path_or_uri: str | Path, form: str | None) -> Path:
    """Save episodes in one step; see `EpisodeSequence.save`."""
    scheme, rest = split_scheme(str(path_or_uri))
    if form is not None and scheme is not None and form != scheme:
        raise InvalidInputError(f"The path {path_or_uri} names the format {scheme!r}, the argument {form!r}.")
    chosen = format_named(form or scheme or DEFAULT_FORMAT)
    path = Path(rest).expanduser() if scheme is None else chosen.locate(rest)
    if not len(episodes):
        raise InvalidInputError("There are no episodes to save: the sequence is empty.")
    _place(path, partial(chosen.write, episodes))
    return path


def stream_to_disk(episodes: Iterable[Episode], path: str | Path | None, **known: Any) -> EpisodeSource:
    """Write episodes to disk as they come and open them there.

    Args:
        episodes: The episodes, taken one at a time.
        path: Where they stay; None for a temporary folder that goes when nobody reads it any more.
        **known: `observation_space`, `action_space` and `metadata`, as far as they are known.
    """
    if path is None:
        return _stream_to_temporary(episodes, known)
    target = Path(path).expanduser()
    _place(target, lambda folder: write_episodes(folder, episodes, **known))
    return MemoryMappedSource(target)


def checked_episodes(given: Any, n_episodes: int | None = None) -> Iterator[Episode]:
    """The episodes of an iterable, or of a function that makes one.

    Raises:
        InvalidInputError: It gives something else, none at all, or fewer than `n_episodes`.
    """
    if n_episodes is not None and n_episodes < 1:
        raise InvalidInputError(f"Expected n_episodes of at least 1, got {n_episodes}.")
    items = given() if callable(given) else given
    if not isinstance(items, Iterable):
        raise InvalidInputError(f"Expected an iterable of episodes, got {given!r:.200} ({type(given).__name__}).")
    return _checked(items, n_episodes)


def tell_losses(lost: Sequence[str]) -> None:
    """Warn of what a form of storage could not carry; once for all of it."""
    if lost:
        warnings.warn(" ".join(lost), LossyConversionWarning, stacklevel=5)


def _checked(items: Iterable[Any], n_episodes: int | None) -> Iterator[Episode]:
    count = 0
    for item in islice(items, n_episodes):
        if not isinstance(item, Episode):
            raise InvalidInputError(f"Element {count} is no Episode but {item!r:.200} ({type(item).__name__}).")
        yield item
        count += 1
    if n_episodes is not None and count < n_episodes:
        raise InvalidInputError(f"{n_episodes} episodes were asked for, and only {count} came.")
    if not count:
        raise InvalidInputError("There are no episodes: the iterable is empty.")


def _place(path: Path, write: Callable[[Path], Sequence[str]]) -> None:
    _check_replaceable(path)
    lost: list[str] = []
    replace_in_one_step(path, lambda place: lost.extend(write(place)), own_files=_own_files)
    tell_losses(lost)


def _check_replaceable(path: Path) -> None:
    if not path.name:
        raise InvalidInputError(f"Cannot save to {path}: give the path of a new file or folder.")
    is_free = not path.exists() or (path.is_dir() and not any(path.iterdir()))
    if not is_free and not _is_data_set(path):
        raise InvalidInputError(
            f"{path} exists and is no data set, so it is not replaced. Choose another path, or remove it."
        )


def _is_data_set(path: Path) -> bool:
    return path.exists() and recognised_format(path) is not None


def _own_files(folder: Path) -> Collection[str]:
    """The files of an old data set: those in our table, else those that look like data."""
    if (folder / TABLE_FILE).is_file():
        try:
            return set(DatasetTable.read(folder).files())
        except ArchiveError:
            pass
    files = (file for file in folder.rglob("*") if file.suffix in DATA_ENDINGS)
    return {file.relative_to(folder).as_posix() for file in files}


def _stream_to_temporary(episodes: Iterable[Episode], known: dict[str, Any]) -> EpisodeSource:
    home = Path(tempfile.mkdtemp(prefix="rl_framework-episodes-"))
    try:
        tell_losses(write_episodes(home / "episodes", episodes, **known))
        source = MemoryMappedSource(home / "episodes")
    except BaseException as error:
        shutil.rmtree(home, ignore_errors=True)
        if isinstance(error, OSError) and not isinstance(error, RLFrameworkError):
            raise ArchiveError(f"Cannot write episodes to {home}: {error}. Give a path on a larger disk.") from error
        raise
    weakref.finalize(source, _remove, home, os.getpid())
    return source


def _remove(folder: Path, owner: int) -> None:
    """A process that was forked off drops its copy of the source, too; the files are not its own."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
