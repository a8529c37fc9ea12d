from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.hub_upload_memory import MEGABYTE, measure


@pytest.mark.timeout(120)
def test_an_upload_is_streamed_from_the_disk(tmp_path: Path) -> None:
    assert measure(200, tmp_path)["bytes_above"] < 100 * MEGABYTE
