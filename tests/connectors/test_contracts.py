"""The contract suites over every connector."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from rl_framework.connectors.local import LocalConnector
from rl_framework.connectors.null import NullConnector
from rl_framework.connectors.tee import Tee
from rl_framework.connectors.tensorboard import TensorBoardTracker
from rl_framework.errors import InvalidInputError
from rl_framework.testing.connectors import History, StoreContract, TrackerContract
from tests.connectors.event_files import read_scalars


class TestLocalConnector(StoreContract, TrackerContract):
    def open(self, folder: Path) -> LocalConnector:
        return LocalConnector(folder)

    def logged_values(self, tracker: LocalConnector) -> History:
        return tracker.read_values()


class TestTensorBoardTracker(TrackerContract):
    def open(self, folder: Path) -> TensorBoardTracker:
        return TensorBoardTracker(folder)

    def logged_values(self, tracker: TensorBoardTracker) -> History:
        return read_scalars(tracker.folder)


class TestNullConnector(TrackerContract):
    def open(self, folder: Path) -> NullConnector:
        return NullConnector()

    def logged_values(self, tracker: Any) -> History:
        values: History = {}
        return values

    def kept(self, values: History) -> History:
        return {}

    def test_it_writes_nothing(self, tmp_path: Path) -> None:
        with self.open(tmp_path) as connector:
            connector.log_value("a", 1.0)
            connector.log_values_with_step({"a": 1.0}, 1)
            connector.upload(tmp_path)
        assert list(tmp_path.iterdir()) == []
        assert vars(connector) == {}


class TestTee(StoreContract, TrackerContract):
    def open(self, folder: Path) -> Tee:
        return Tee(LocalConnector(folder / "one"), TensorBoardTracker(folder / "two"), LocalConnector(folder / "three"))

    def logged_values(self, tracker: Any) -> History:
        first, second, third = tracker.members
        assert first.read_values() == read_scalars(second.folder) == third.read_values()
        values: History = first.read_values()
        return values


@pytest.mark.parametrize("kind", [LocalConnector, TensorBoardTracker])
def test_what_is_no_number_is_refused(tmp_path: Path, kind: Any) -> None:
    with kind(tmp_path) as tracker, pytest.raises(InvalidInputError, match="'a', got 'many'"):
        tracker.log_value("a", "many")


def test_nan_is_kept(tmp_path: Path) -> None:
    with LocalConnector(tmp_path) as connector:
        connector.log_value("a", float("nan"), 3)
    [(step, value)] = connector.read_values()["a"]
    assert step == 3
    assert math.isnan(value)
