from __future__ import annotations

from pathlib import Path

import pytest

from rl_framework.connectors.packed_folder import digest_of, digest_of_folder, packed, place_folder, place_packed
from rl_framework.errors import CorruptArchiveError, InvalidInputError, UnsafeArchiveError
from rl_framework.testing.connectors import contents, make_folder


def test_a_packed_folder_is_placed_in_the_cache_or_where_it_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RL_FRAMEWORK_CACHE", str(tmp_path / "cache"))
    folder = make_folder(tmp_path / "agent", "one")
    with packed(folder, "agent.zip") as agent:
        assert agent.sha256 == digest_of(agent.path)
        for destination in (None, tmp_path / "copy"):
            place = place_packed(agent.path, destination, "service/one", agent.sha256)
            assert place == (destination or tmp_path / "cache" / "service" / "one")
            assert contents(place) == contents(folder)
    assert not agent.path.exists()


def test_an_altered_file_is_refused(tmp_path: Path) -> None:
    with packed(make_folder(tmp_path / "agent", "one"), "agent.zip") as agent:
        with agent.path.open("ab") as file:
            file.write(b"more")
        with pytest.raises(CorruptArchiveError, match="checksum"):
            place_packed(agent.path, tmp_path / "copy", "one", agent.sha256)
    assert not (tmp_path / "copy").exists()


def test_a_link_is_refused(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "agent", "one")
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(UnsafeArchiveError, match="link"):
        place_folder(folder, tmp_path / "copy", "one")
    assert not (tmp_path / "copy").exists()


def test_what_is_no_agent_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").touch()
    with pytest.raises(InvalidInputError, match="not a saved agent"):
        place_folder(make_folder(tmp_path / "agent", "one"), tmp_path / "thesis", "one")


def test_a_folder_has_another_checksum_when_a_name_or_a_content_changes(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "agent", "one")
    before = digest_of_folder(folder)
    (folder / "only-one").rename(folder / "only-two")
    assert digest_of_folder(folder) != before
    (folder / "only-two").rename(folder / "only-one")
    assert digest_of_folder(folder) == before
    (folder / "manifest.json").write_text("{}")
    assert digest_of_folder(folder) != before
