from __future__ import annotations

from pathlib import Path

import pytest

from rl_framework.connectors.null import NullConnector
from rl_framework.errors import ConnectorError, MissingArchiveError


def test_nothing_can_be_downloaded(tmp_path: Path) -> None:
    with pytest.raises(ConnectorError, match="keeps nothing"):
        NullConnector().download(tmp_path / "copy")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_refused_all_the_same(tmp_path: Path) -> None:
    with pytest.raises(MissingArchiveError, match="no-such"):
        NullConnector().upload(tmp_path / "no-such")
