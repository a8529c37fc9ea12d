from __future__ import annotations

from pathlib import Path

import pytest

from rl_framework.connectors.keys import has_key

ADDRESS = "https://api.wandb.ai"


@pytest.mark.parametrize(
    ("netrc", "there"),
    [
        pytest.param("machine api.wandb.ai login user password 123", True, id="of this service"),
        pytest.param("machine example.org login user password 123", False, id="of another"),
        pytest.param("machine", False, id="damaged"),
    ],
)
def test_a_netrc_file_may_hold_a_key(netrc: str, there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    file = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(file))
    assert not has_key("SOME_KEY", ADDRESS)
    file.write_text(netrc)
    file.chmod(0o600)
    assert has_key("SOME_KEY", ADDRESS) is there
    monkeypatch.setenv("SOME_KEY", "123")
    assert has_key("SOME_KEY", ADDRESS)
