"""Opening a saved agent, or what pretends to be one: nothing leaves its folder, nothing is executed."""

from __future__ import annotations

import errno
import os
import pickle
import stat
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rl_framework.checkpoints import archive
from rl_framework.checkpoints.archive import open_archive, save_archive
from rl_framework.checkpoints.manifest import Manifest
from rl_framework.errors import (
    ArchiveError,
    CorruptArchiveError,
    MissingArchiveError,
    UnsafeArchiveError,
)
from tests.checkpoints.agents import names, small_agent, steps_of

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("wanted", ["cartpol", "cartpole.zip", "cartpole-ppo"])
def test_a_missing_path_suggests_what_has_a_similar_name(tmp_path: Path, wanted: str) -> None:
    save_archive(tmp_path / "cartpole", small_agent(1))
    with pytest.raises(MissingArchiveError, match=r"Did you mean .*cartpole"), open_archive(tmp_path / wanted):
        pass


def test_a_missing_parent_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingArchiveError, match="does not exist either"), open_archive(tmp_path / "no" / "agent"):
        pass


def zip_with(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for entry, content in entries:
            file.writestr(entry, content)
    return path


def link_entry() -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo("link")
    entry.create_system = 3
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


@pytest.mark.parametrize(
    "name",
    ["../evil", "a/../../evil", "/evil", "..\\evil", "C:\\evil", "C:evil", "a/..", "\\\\host\\evil", "//evil", ".."],
)
def test_entries_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    file = zip_with(tmp_path / "agent.zip", ("manifest.json", b"{}"), (name, b"evil"))
    with pytest.raises(UnsafeArchiveError), open_archive(file):
        pass
    assert names(tmp_path) == ["agent.zip"]


def test_links_are_refused(tmp_path: Path) -> None:
    file = zip_with(tmp_path / "agent.zip", (link_entry(), b"/etc/passwd"))
    with pytest.raises(UnsafeArchiveError, match="link"), open_archive(file):
        pass


@pytest.mark.parametrize("second", ["a.json", "A.json", "a.json/"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_double_names_are_refused(tmp_path: Path, second: str) -> None:
    file = zip_with(tmp_path / "agent.zip", ("a.json", b"1"), (second, b""))
    with pytest.raises(UnsafeArchiveError, match="twice"), open_archive(file):
        pass


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rl_framework.checkpoints.zip_files.FREE_BYTES", 2**20)
    file = zip_with(tmp_path / "agent.zip", ("zeros.bin", bytes(30 * 2**20)))
    with pytest.raises(UnsafeArchiveError, match="would grow"), open_archive(file):
        pass


def test_a_lie_about_the_size_is_noticed(tmp_path: Path) -> None:
    file = zip_with(tmp_path / "agent.zip", ("zeros.bin", bytes(2**20)))
    content = bytearray(file.read_bytes())
    at = content.rindex(b"PK\x01\x02") + 24
    content[at : at + 4] = (10).to_bytes(4, "little")
    file.write_bytes(bytes(content))
    with pytest.raises(CorruptArchiveError), open_archive(file):
        pass


def test_entries_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    file = zip_with(tmp_path / "agent.zip", ("a", b"file"), ("a/b", b"file in a file"))
    with pytest.raises(ArchiveError, match="cannot be extracted"), open_archive(file):
        pass


def test_a_disk_that_refuses_to_note_the_new_name_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(archive, "flush", refuse)
    save_archive(tmp_path / "agent", small_agent(1))
    assert steps_of(tmp_path / "agent") == 1


def test_too_many_entries_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rl_framework.checkpoints.zip_files.MOST_ENTRIES", 1)
    file = zip_with(tmp_path / "agent.zip", ("a", b""), ("b", b""))
    with pytest.raises(UnsafeArchiveError, match="2 entries"), open_archive(file):
        pass


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04"])
def test_a_file_that_is_no_zip_is_corrupt(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "agent.zip").write_bytes(content)
    with pytest.raises(CorruptArchiveError, match="not a whole zip"), open_archive(tmp_path / "agent.zip"):
        pass


def test_a_zip_truncated_anywhere_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "agent.zip"
    save_archive(file, small_agent(1))
    whole = file.read_bytes()
    for length in range(0, len(whole), 97):
        file.write_bytes(whole[:length])
        with pytest.raises(ArchiveError):
            steps_of(file)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_altered_byte_of_a_zip_is_noticed_or_harmless(tmp_path: Path, data: st.DataObject) -> None:
    file = tmp_path / "agent.zip"
    if not file.exists():
        save_archive(file, small_agent(1))
    whole = file.read_bytes()
    altered = bytearray(whole)
    altered[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(bytes(altered))
    try:
        assert steps_of(file) == 1
    except ArchiveError:
        return
    finally:
        file.write_bytes(whole)


def test_a_zip_made_by_hand_of_the_whole_folder_is_read(tmp_path: Path) -> None:
    save_archive(tmp_path / "agent", small_agent(4))
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as file:
        for part in sorted((tmp_path / "agent").rglob("*")):
            file.write(part, part.relative_to(tmp_path))
    assert steps_of(tmp_path / "mine.zip") == 4


def test_an_extracted_zip_is_gone_after_the_block(tmp_path: Path) -> None:
    save_archive(tmp_path / "agent.zip", small_agent(1))
    with open_archive(tmp_path / "agent.zip") as folder:
        assert (folder / "manifest.json").is_file()
    assert not folder.exists()


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("name", ["data", "policy.pth", "policy.json", "policy.safetensors", "manifest.json"])
def test_a_pickle_hidden_in_a_zip_is_never_executed(tmp_path: Path, name: str) -> None:
    trace = tmp_path / "executed"
    payload = pickle.dumps(Payload(trace))
    save_archive(tmp_path / "agent", small_agent(1))
    (tmp_path / "agent" / name).write_bytes(payload)
    if name not in ("data", "policy.pth", "manifest.json"):
        Manifest.read(tmp_path / "agent", verify=False).write(tmp_path / "agent")
    file = tmp_path / "evil.zip"
    with zipfile.ZipFile(file, "w") as packed:
        for part in sorted((tmp_path / "agent").rglob("*")):
            packed.write(part, part.relative_to(tmp_path / "agent"))
    with suppress(ArchiveError):
        steps_of(file)
    assert not trace.exists()
    pickle.loads(payload)
    assert trace.exists(), "the payload must work, or the test proves nothing"
