from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rl_framework.connectors.base import Connector, Tracker
from rl_framework.connectors.local import LocalConnector
from rl_framework.connectors.null import NullConnector
from rl_framework.connectors.tee import Tee
from rl_framework.errors import ConnectorError, InvalidInputError
from rl_framework.testing.connectors import contents, make_folder


class BrokenConnector(Connector):
    """Fails at everything."""

    def log_value(self, name: str, value: float, step: int | None = None) -> None:
        raise OSError("no network")

    def log_values_with_step(self, values: Mapping[str, float], step: int) -> None:
        raise OSError("no network")

    def log_text(self, name: str, text: str, step: int | None = None) -> None:
        raise OSError("no network")

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        raise OSError("no network")

    def log_video(self, name: str, path: Path, step: int | None = None) -> None:
        raise OSError("no network")

    def log_artifact(self, name: str, path: Path) -> None:
        raise OSError("no network")

    def upload(self, folder: Path, *, message: str | None = None) -> str:
        raise OSError("no network")

    def download(self, destination: Path | None = None, *, revision: str | None = None) -> Path:
        raise OSError("no network")

    def flush(self) -> None:
        raise OSError("no network")

    def close(self) -> None:
        raise OSError("no network")


class NotingTracker(Tracker):
    """Notes what it is asked to do."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def log_value(self, name: str, value: float, step: int | None = None) -> None:
        self.done.append("log_value")

    def log_values_with_step(self, values: Mapping[str, float], step: int) -> None:
        self.done.append("log_values_with_step")

    def log_text(self, name: str, text: str, step: int | None = None) -> None:
        self.done.append("log_text")

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        self.done.append("log_parameters")

    def log_video(self, name: str, path: Path, step: int | None = None) -> None:
        self.done.append("log_video")

    def log_artifact(self, name: str, path: Path) -> None:
        self.done.append("log_artifact")

    def flush(self) -> None:
        self.done.append("flush")

    def close(self) -> None:
        self.done.append("close")


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("log_value", ("a", 1.0, 1)),
        ("log_values_with_step", ({"a": 1.0}, 1)),
        ("log_text", ("a", "text")),
        ("log_parameters", ({"a": 1},)),
        ("log_video", ("a", Path(__file__))),
        ("log_artifact", ("a", Path(__file__))),
        ("flush", ()),
        ("close", ()),
    ],
)
def test_one_that_fails_does_not_stop_the_others(verb: str, arguments: tuple[Any, ...]) -> None:
    before, after = NotingTracker(), NotingTracker()
    with pytest.raises(ConnectorError, match=r"1 of .* BrokenConnector: OSError: no network") as caught:
        getattr(Tee(before, BrokenConnector(), after), verb)(*arguments)
    assert before.done == after.done == [verb]
    assert isinstance(caught.value.__cause__, OSError)


def test_all_that_fail_are_named() -> None:
    with pytest.raises(ConnectorError, match=r"2 of .*BrokenConnector.*BrokenConnector"):
        Tee(BrokenConnector(), BrokenConnector()).log_value("a", 1.0)


def test_an_upload_reaches_the_others_when_one_fails(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "agent", "one")
    connector = LocalConnector(tmp_path / "place")
    with pytest.raises(ConnectorError, match="no network"):
        Tee(BrokenConnector(), connector).upload(folder)
    assert contents(connector.download()) == contents(folder)
    connector.close()


def test_an_upload_says_every_place(tmp_path: Path) -> None:
    first, second = LocalConnector(tmp_path / "one"), LocalConnector(tmp_path / "two")
    with Tee(first, NotingTracker(), second) as tee:
        places = tee.upload(make_folder(tmp_path / "agent", "one")).split(", ")
    assert [Path(place).parents[1].name for place in places] == ["one", "two"]


def test_a_download_comes_from_the_first_that_has_it(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "agent", "one")
    with LocalConnector(tmp_path / "place") as connector:
        connector.upload(folder)
        found = Tee(BrokenConnector(), NullConnector(), connector).download()
    assert contents(found) == contents(folder)


def test_a_download_that_none_has_names_all(tmp_path: Path) -> None:
    with pytest.raises(ConnectorError, match=r"2 of .*BrokenConnector: .*NullConnector: "):
        Tee(BrokenConnector(), NullConnector()).download()


def test_trackers_alone_keep_no_folders(tmp_path: Path) -> None:
    with pytest.raises(ConnectorError, match="is a store"):
        Tee(NotingTracker()).upload(tmp_path)


def test_what_is_no_connector_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="'runs/x'"):
        Tee("runs/x")  # type: ignore[arg-type]


def test_an_interrupt_is_not_held_up() -> None:
    after = NotingTracker()
    with pytest.raises(KeyboardInterrupt):
        Tee(InterruptedTracker(), after).log_value("a", 1.0)
    assert after.done == []


class InterruptedTracker(NotingTracker):
    def log_value(self, name: str, value: float, step: int | None = None) -> None:
        raise KeyboardInterrupt
