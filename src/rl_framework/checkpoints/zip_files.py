"""A folder as one zip file, and back, where the zip may come from a stranger."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from pathlib import Path

from rl_framework.checkpoints.manifest import MANIFEST_FILE, check_inside
from rl_framework.errors import ArchiveError, CorruptArchiveError, UnsafeArchiveError

COMPRESSED_ENDINGS = (".json", ".md", ".txt", ".csv")
FIXED_DATE = (1980, 1, 1, 0, 0, 0)
LARGEST_RATIO = 200
FREE_BYTES = 2**30
MOST_ENTRIES = 100_000
COPY_BYTES = 2**20
READ_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OverflowError)


def pack(folder: Path, file: Path) -> None:
    """Write a folder's files into a new zip; equal folders give equal zips.

    Arrays are stored as they are, because compressing weights costs much and gains little.

    Raises:
        OSError: It cannot be written.
    """
    with zipfile.ZipFile(file, "w") as archive:
        for source in sorted(part for part in folder.rglob("*") if part.is_file()):
            entry = zipfile.ZipInfo(source.relative_to(folder).as_posix(), FIXED_DATE)
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            entry.file_size = source.stat().st_size
            if source.suffix in COMPRESSED_ENDINGS:
                entry.compress_type = zipfile.ZIP_DEFLATED
            with source.open("rb") as data, archive.open(entry, "w") as copy:
                shutil.copyfileobj(data, copy, COPY_BYTES)


def unpack(file: Path, folder: Path) -> Path:
    """Extract a zip into an empty folder, after all of its entries were checked.

    Returns:
        The folder that holds the manifest: the given one, or the only folder in it.

    Raises:
        UnsafeArchiveError: An entry would leave the folder, is a link or a device, is there twice, or would fill
            the disk. Nothing was extracted.
        CorruptArchiveError: It is not a zip file, or a damaged one.
        ArchiveError: It cannot be read or extracted (full disk, names that contradict each other).
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            _check_entries(entries, file)
            for entry in entries:
                _extract(archive, entry, folder)
    except READ_ERRORS as error:
        raise CorruptArchiveError(f"{file} is not a whole zip file: {error}.") from error
    except OSError as error:
        raise ArchiveError(f"{file} cannot be extracted into {folder}: {error}.") from error
    return _inner_folder(folder)


def check_zip(file: Path) -> None:
    """Refuse a zip that `unpack` would refuse; nothing is extracted.

    Raises:
        UnsafeArchiveError: An entry would leave the folder, is a link or a device, is there twice, or would fill
            the disk.
        CorruptArchiveError: It is not a zip file, or a damaged one.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            _check_entries(archive.infolist(), file)
    except READ_ERRORS as error:
        raise CorruptArchiveError(f"{file} is not a whole zip file: {error}.") from error


def holds_manifest(file: Path) -> bool:
    """Whether a file is a zip with a manifest in it; nothing is extracted."""
    try:
        with zipfile.ZipFile(file) as archive:
            return MANIFEST_FILE in archive.namelist()
    except READ_ERRORS:
        return False


def _check_entries(entries: list[zipfile.ZipInfo], file: Path) -> None:
    if len(entries) > MOST_ENTRIES:
        raise UnsafeArchiveError(f"{file} has {len(entries)} entries, more than the {MOST_ENTRIES} that are read.")
    seen: set[str] = set()
    for entry in entries:
        _check_entry(entry, file)
        name = entry.filename.rstrip("/").casefold()
        if name in seen:
            raise UnsafeArchiveError(f"{file} holds {entry.filename!r} twice. Nothing was extracted.")
        seen.add(name)
    _check_size(entries, file)


def _check_entry(entry: zipfile.ZipInfo, file: Path) -> None:
    check_inside(entry.orig_filename, str(file))
    check_inside(entry.filename, str(file))
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise UnsafeArchiveError(f"{file} holds a link or device, {entry.filename!r}. Nothing was extracted.")


def _check_size(entries: list[zipfile.ZipInfo], file: Path) -> None:
    declared, held = sum(entry.file_size for entry in entries), file.stat().st_size
    if declared > FREE_BYTES + LARGEST_RATIO * held:
        raise UnsafeArchiveError(
            f"{file} has {held} bytes and would grow to {declared} when extracted, more than {LARGEST_RATIO} times as "
            "much. Nothing was extracted."
        )


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> None:
    """Never writes more than the declared size, which `zipfile` enforces while it reads."""
    target = folder.joinpath(*entry.filename.rstrip("/").split("/"))
    if entry.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(entry) as data, target.open("xb") as copy:
        shutil.copyfileobj(data, copy, COPY_BYTES)


def _inner_folder(folder: Path) -> Path:
    parts = list(folder.iterdir())
    if len(parts) == 1 and (parts[0] / MANIFEST_FILE).is_file():
        return parts[0]
    return folder
