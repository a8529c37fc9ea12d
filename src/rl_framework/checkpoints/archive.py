"""Saving in one step: a reader, and a crash at any moment, finds the old version or the new one, whole.

The new version is written into a staging folder beside the target, `.<name>.saving-<random>`, flushed to the disk
and then swapped with the old one. The staging folder is locked while its writer lives; the next save removes those
whose writer died.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory

from rl_framework.checkpoints.file_system import FolderLock, exchange, flush, flush_tree, shared_lock
from rl_framework.checkpoints.manifest import MANIFEST_FILE, Manifest, is_complete
from rl_framework.checkpoints.zip_files import holds_manifest, pack, unpack
from rl_framework.errors import ArchiveError, InvalidInputError, MissingArchiveError, RLFrameworkError

READER_PATIENCE = 10.0
CLAIM_ATTEMPTS = 10


def save_archive(path: str | Path, write: Callable[[Path], None]) -> None:
    """Save a folder, or a zip of it, in one step.

    Files that somebody else put into the old folder (a README) are kept.

    Args:
        path: Where to; a path ending in `.zip` is the same folder, zipped. Missing parents are made.
        write: Fills an empty folder, the manifest last.

    Raises:
        InvalidInputError: Something that is no saved agent is in the way. It was not touched.
        ArchiveError: It cannot be written (full disk, no permission). What was there before is untouched, as it is
            when `write` raises.
    """
    target = Path(os.path.realpath(Path(path).expanduser()))
    zipped = target.suffix.lower() == ".zip"
    _check_target(target, zipped)
    try:
        with _parents(target), _staging_folder(target) as staging:
            content = staging / "content"
            content.mkdir()
            write(content)
            _place_zip(content, target) if zipped else _place_folder(content, target, _listed_files)
    except OSError as error:
        raise ArchiveError(f"Cannot save to {target}: {error}. What was saved there before is untouched.") from error


def replace_in_one_step(
    path: str | Path, write: Callable[[Path], None], *, own_files: Callable[[Path], Collection[str]]
) -> None:
    """Save a file or a folder of any kind in one step, as `save_archive` does with agents.

    Args:
        path: Where to; whether what is there may be replaced is for the caller to judge. Missing parents are made.
        write: Makes the file or the folder at the path that it is given, which has the ending of `path`.
        own_files: Relative paths of the files in the old folder that belong to what is replaced; others are kept.

    Raises:
        ArchiveError: It cannot be written. What was there before is untouched, as it is when `write` raises.
    """
    target = Path(os.path.realpath(Path(path).expanduser()))
    try:
        with _parents(target), _staging_folder(target) as staging:
            content = staging / f"content{target.suffix}"
            write(content)
            _place_folder(content, target, own_files) if content.is_dir() else _place_file(content, target)
    except RLFrameworkError:
        raise
    except OSError as error:
        raise ArchiveError(f"Cannot save to {target}: {error}. What was saved there before is untouched.") from error


@contextmanager
def open_archive(path: str | Path) -> Iterator[Path]:
    """The folder of a saved agent for the length of a block; a zip is extracted for that time.

    Writers wait some seconds before they replace a folder that is being read.

    Raises:
        MissingArchiveError: There is nothing; the message names what has a similar name.
        UnsafeArchiveError: A zip that would write outside its folder or fill the disk. Nothing was extracted.
        CorruptArchiveError: A file that is not a zip, or a damaged one.
    """
    place = existing_archive(path)
    if place.is_dir():
        with shared_lock(place):
            yield place
        return
    with TemporaryDirectory(prefix="rl_framework-", ignore_cleanup_errors=True) as folder:
        yield unpack(place, Path(folder))


def existing_archive(
    path: str | Path, *, what: str = "saved agent", is_whole: Callable[[Path], bool] = is_complete
) -> Path:
    """The path itself if something is there, or the older version that a crash left beside it.

    Args:
        path: Where it should be.
        what: What should be there, for the message.
        is_whole: Whether a folder that a crash may have left holds all of it.

    Raises:
        MissingArchiveError: There is neither; the message names what has a similar name.
    """
    place = Path(path).expanduser()
    if place.exists():
        return place
    previous = _previous_of(Path(os.path.realpath(place)))
    if is_whole(previous):
        return previous
    raise MissingArchiveError(f"No {what} at {place}: there is no such file or folder.{_similar(place)}")


def _similar(place: Path) -> str:
    if not place.parent.is_dir():
        return f" The folder {place.parent} does not exist either."
    names = [sibling.name for sibling in place.parent.iterdir() if not sibling.name.startswith(".")]
    close = get_close_matches(place.name, names, n=3) or sorted(set(names) & {place.stem, f"{place.name}.zip"})
    return f" Did you mean {' or '.join(str(place.parent / name) for name in close)}?" if close else ""


def _check_target(target: Path, zipped: bool) -> None:
    if not target.name:
        raise InvalidInputError(f"Cannot save to {target}: give the path of a new folder, or of a file ending in .zip.")
    if not target.exists():
        return
    if zipped:
        fits = target.is_file() and holds_manifest(target)
    else:
        fits = target.is_dir() and ((target / MANIFEST_FILE).is_file() or not any(target.iterdir()))
    if not fits:
        raise InvalidInputError(
            f"{target} exists and is not a saved agent, so it is not replaced. Choose another path, or remove it."
        )


@contextmanager
def _parents(target: Path) -> Iterator[None]:
    """Make the missing parents; remove them again if the block fails."""
    missing = [parent for parent in target.parents if not parent.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with suppress(OSError):
            for parent in missing:
                parent.rmdir()
        raise
    for parent in missing:
        _note_names(parent.parent)


@contextmanager
def _staging_folder(target: Path) -> Iterator[Path]:
    """A locked folder beside the target, gone after the block with all that it then holds."""
    _remove_leftovers(target)
    folder, lock = _claim_staging(target)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def _claim_staging(target: Path) -> tuple[Path, FolderLock]:
    """Another save may take a new folder for a leftover until it is locked; then a further one is made."""
    for attempt in range(CLAIM_ATTEMPTS):
        folder = target.parent / f"{_staging_prefix(target)}{secrets.token_hex(6)}"
        folder.mkdir()
        lock = FolderLock(folder)
        if lock.acquire() or (attempt == CLAIM_ATTEMPTS - 1 and folder.is_dir()):
            return folder, lock
        shutil.rmtree(folder, ignore_errors=True)
    raise OSError(f"no staging folder beside {target} stays in place")


def _remove_leftovers(target: Path) -> None:
    """Remove staging folders whose writer died: nobody holds their lock."""
    for folder in target.parent.iterdir():
        if folder.name.startswith(_staging_prefix(target)):
            lock = FolderLock(folder)
            if lock.acquire():
                shutil.rmtree(folder, ignore_errors=True)
                lock.release()


def _staging_prefix(target: Path) -> str:
    return f".{target.name}.saving-"


def _previous_of(target: Path) -> Path:
    return target.parent / f".{target.name}.previous"


def _place_zip(content: Path, target: Path) -> None:
    archive = content.parent / "archive.zip"
    pack(content, archive)
    _place_file(archive, target)


def _place_file(content: Path, target: Path) -> None:
    flush(content)
    content.replace(target)
    _note_names(target.parent)


def _place_folder(content: Path, target: Path, own_files: Callable[[Path], Collection[str]]) -> None:
    flush_tree(content)
    with ExitStack() as stack:
        if target.is_dir():
            lock = FolderLock(target)
            stack.callback(lock.release)
            lock.acquire(timeout=READER_PATIENCE)
            if _keep_foreign_files(target, content, own_files(target)):
                flush_tree(content)
        _swap(content, target)
        _note_names(target.parent)
    shutil.rmtree(_previous_of(target), ignore_errors=True)


def _note_names(folder: Path) -> None:
    """Have the disk note what was renamed. Old or new, the version is whole, so a refusal is no failure."""
    with suppress(OSError):
        flush(folder)


def _swap(content: Path, target: Path) -> None:
    if not _took_free_place(content, target) and not exchange(content, target):
        _rename_aside(content, target)


def _took_free_place(content: Path, target: Path) -> bool:
    """Take a place that is free; another writer may be faster."""
    if target.exists():
        return False
    try:
        content.rename(target)
    except OSError:
        if target.exists():
            return False
        raise
    return True


def _rename_aside(content: Path, target: Path) -> None:
    """For file systems that cannot swap: a crash between the renames is mended by `existing_archive`."""
    previous = _previous_of(target)
    shutil.rmtree(previous, ignore_errors=True)
    target.rename(previous)
    try:
        content.rename(target)
    except OSError:
        previous.rename(target)
        raise


def _keep_foreign_files(old: Path, new: Path, ours: Collection[str]) -> bool:
    """Give the new folder what others put into the old one: files that are not among `ours`.

    Returns:
        Whether there were any.
    """
    named = {file.relative_to(old): file for file in old.rglob("*") if file.is_symlink() or not file.is_dir()}
    foreign = {name: file for name, file in named.items() if name.as_posix() not in ours}
    for name, file in foreign.items():
        if not os.path.lexists(new / name):
            _link_or_copy(file, new / name)
    return bool(foreign)


def _link_or_copy(file: Path, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, copy, follow_symlinks=False)
    except OSError:
        shutil.copy2(file, copy, follow_symlinks=False)


def _listed_files(folder: Path) -> set[str]:
    try:
        return {MANIFEST_FILE, *Manifest.read(folder, verify=False).files}
    except ArchiveError:
        return {MANIFEST_FILE}
