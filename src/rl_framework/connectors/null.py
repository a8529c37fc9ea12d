"""A connector for runs that share nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rl_framework.connectors.base import Connector, check_folder
from rl_framework.errors import ConnectorError


class NullConnector(Connector):
    """Takes everything and holds nothing."""

    def log_value(self, name: str, value: float, step: int | None = None) -> None:
        """Drop one number."""

    def log_values_with_step(self, values: Mapping[str, float], step: int) -> None:
        """Drop several numbers."""

    def upload(self, folder: Path, *, message: str | None = None) -> str:  # noqa: ARG002  (dropped, as promised)
        """Look whether the folder is there, and keep nothing of it."""
        check_folder(folder)
        return "nowhere: this connector keeps nothing"

    def download(self, destination: Path | None = None, *, revision: str | None = None) -> Path:
        """Refuse: there is nothing to give back."""
        wanted = f"revision {revision!r}" if revision else "a folder"
        place = f" to {destination}" if destination else ""
        raise ConnectorError(f"A NullConnector keeps nothing; it cannot give back {wanted}{place}.")
