from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rl_framework.connectors.user_folders import cache_folder, data_folder


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("platform", "data", "cache"),
    [
        ("linux", ".local/share/rl_framework", ".cache/rl_framework"),
        ("darwin", "Library/Application Support/rl_framework", "Library/Caches/rl_framework"),
        ("win32", "AppData/Local/rl_framework", "AppData/Local/rl_framework/Cache"),
    ],
    ids=["linux", "darwin", "win32"],
)
def test_each_system_has_its_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, data: str, cache: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert data_folder() == tmp_path / data
    assert cache_folder() == tmp_path / cache


def test_the_user_may_name_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "d"))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert data_folder() == tmp_path / "d" / "rl_framework"
    assert cache_folder() == tmp_path / ".cache" / "rl_framework"
