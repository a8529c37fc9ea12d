from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.commands import train_quickly


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; tests only read it."""
    output = tmp_path_factory.mktemp("cli") / "cartpole"
    train_quickly(output)
    return output
