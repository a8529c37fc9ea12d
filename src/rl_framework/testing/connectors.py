"""What every store and every tracker must do, as tests to inherit from.

```python
class TestMyConnector(StoreContract, TrackerContract):
    def open(self, folder: Path) -> MyConnector: ...
    def logged_values(self, tracker: MyConnector) -> History: ...
```

`open` is called with a folder of the test; two calls with the same folder must reach the same place.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rl_framework.connectors.base import Store, Tracker
from rl_framework.errors import ConnectorError, InvalidInputError, MissingArchiveError

History = dict[str, list[tuple[int | None, float]]]


class StoreContract(ABC):
    """Tests of a store."""

    @abstractmethod
    def open(self, folder: Path) -> Any:
        """The store under test, keeping what it must keep below `folder`."""

    def store(self, tmp_path: Path) -> Store:
        """The store under test."""
        store: Store = self.open(tmp_path / "place")
        return store

    def test_a_folder_comes_back_unchanged(self, tmp_path: Path) -> None:
        """Names, nests, empty and binary files."""
        folder = make_folder(tmp_path / "agent", "one")
        with self.store(tmp_path) as store:
            assert store.upload(folder)
            assert contents(store.download()) == contents(folder)

    def test_it_can_be_put_where_it_is_wanted(self, tmp_path: Path) -> None:
        """A copy at the destination, which belongs to the caller."""
        folder = make_folder(tmp_path / "agent", "one")
        with self.store(tmp_path) as store:
            store.upload(folder, message="the first one")
            copy = store.download(tmp_path / "deep" / "copy")
            assert copy == tmp_path / "deep" / "copy"
            (copy / "manifest.json").write_text("changed")
            assert contents(store.download()) == contents(folder)

    def test_the_newest_one_comes_back(self, tmp_path: Path) -> None:
        """Without files that only the earlier one had."""
        with self.store(tmp_path) as store:
            store.upload(make_folder(tmp_path / "first", "one"))
            store.upload(make_folder(tmp_path / "second", "two"))
            assert contents(store.download()) == contents(tmp_path / "second")

    def test_another_process_finds_it(self, tmp_path: Path) -> None:
        """Nothing is kept in memory only."""
        folder = make_folder(tmp_path / "agent", "one")
        with self.store(tmp_path) as store:
            store.upload(folder)
        with self.store(tmp_path) as again:
            assert contents(again.download()) == contents(folder)

    def test_the_uploaded_folder_stays_as_it_was(self, tmp_path: Path) -> None:
        """An upload is a copy."""
        folder = make_folder(tmp_path / "agent", "one")
        before = contents(folder)
        with self.store(tmp_path) as store:
            store.upload(folder)
        assert contents(folder) == before

    def test_a_missing_folder_is_refused_and_the_earlier_one_stays(self, tmp_path: Path) -> None:
        """The error names the path."""
        folder = make_folder(tmp_path / "agent", "one")
        with self.store(tmp_path) as store:
            store.upload(folder)
            with pytest.raises(MissingArchiveError, match="no-such"):
                store.upload(tmp_path / "no-such")
            assert contents(store.download()) == contents(folder)

    def test_a_file_is_refused(self, tmp_path: Path) -> None:
        """Stores keep folders."""
        file = tmp_path / "file"
        file.write_text("x")
        with self.store(tmp_path) as store, pytest.raises(InvalidInputError, match="folder"):
            store.upload(file)

    def test_nothing_comes_back_from_an_empty_store(self, tmp_path: Path) -> None:
        """And no empty folder is left at the destination."""
        with self.store(tmp_path) as store, pytest.raises(ConnectorError):
            store.download(tmp_path / "copy")
        assert not (tmp_path / "copy").exists()

    def test_an_unknown_revision_is_refused(self, tmp_path: Path) -> None:
        """Rather than answered with the newest."""
        with self.store(tmp_path) as store:
            store.upload(make_folder(tmp_path / "agent", "one"))
            with pytest.raises(ConnectorError, match="no-such-revision"):
                store.download(revision="no-such-revision")


class TrackerContract(ABC):
    """Tests of a tracker."""

    @abstractmethod
    def open(self, folder: Path) -> Any:
        """The tracker under test, keeping what it must keep below `folder`."""

    @abstractmethod
    def logged_values(self, tracker: Any) -> History:
        """All numbers that the closed tracker has kept, by name, oldest first; the step None as it comes back."""

    def tracker(self, tmp_path: Path) -> Tracker:
        """The tracker under test."""
        tracker: Tracker = self.open(tmp_path / "place")
        return tracker

    def kept(self, values: History) -> History:
        """What of these numbers a reader finds: all of them, unless a tracker promises less."""
        return values

    def check(self, tracker: Tracker, values: History) -> None:
        """Compare with what was kept."""
        assert self.logged_values(tracker) == self.kept(values)

    def test_numbers_are_kept_under_their_names(self, tmp_path: Path) -> None:
        """Those of stable-baselines3 have slashes and underscores."""
        with self.tracker(tmp_path) as tracker:
            tracker.log_values_with_step({"rollout/ep_rew_mean": 1.5, "time/fps": 100.0}, 10)
            tracker.log_values_with_step({"rollout/ep_rew_mean": 2.5}, 20)
            tracker.log_value("rollout/ep_rew_mean", 4.0, 30)
        self.check(tracker, {"rollout/ep_rew_mean": [(10, 1.5), (20, 2.5), (30, 4.0)], "time/fps": [(10, 100.0)]})

    def test_numbers_of_numpy_are_numbers(self, tmp_path: Path) -> None:
        """Scalars and arrays without axes."""
        with self.tracker(tmp_path) as tracker:
            values: dict[str, Any] = {"a": np.float32(1.5), "b": np.int64(2), "c": np.array(3.0)}
            tracker.log_values_with_step(values, 1)
        self.check(tracker, {"a": [(1, 1.5)], "b": [(1, 2.0)], "c": [(1, 3.0)]})

    def test_infinities_are_kept(self, tmp_path: Path) -> None:
        """A diverging loss is worth knowing."""
        with self.tracker(tmp_path) as tracker:
            tracker.log_values_with_step({"train/loss": float("inf")}, 1)
            tracker.log_values_with_step({"train/loss": float("-inf")}, 2)
        self.check(tracker, {"train/loss": [(1, float("inf")), (2, float("-inf"))]})

    def test_no_numbers_are_no_problem(self, tmp_path: Path) -> None:
        """A report without metrics."""
        with self.tracker(tmp_path) as tracker:
            tracker.log_values_with_step({}, 1)
        self.check(tracker, {})

    def test_everything_else_is_taken(self, tmp_path: Path) -> None:
        """Texts, parameters, files: kept where there is a place, else dropped; the files stay the caller's."""
        video = tmp_path / "replay.mp4"
        video.write_bytes(b"not really")
        with self.tracker(tmp_path) as tracker:
            tracker.log_text("notes", "first line\nsecond line", 5)
            tracker.log_parameters({"learning_rate": 3e-4, "policy": "MlpPolicy", "nest": {"layers": [64, 64]}})
            tracker.log_video("replay/best", video, 5)
            tracker.log_artifact("replay", video)
        assert video.read_bytes() == b"not really"

    def test_it_can_be_flushed_and_closed_at_any_time(self, tmp_path: Path) -> None:
        """Before the first number, twice, and after it."""
        tracker = self.tracker(tmp_path)
        tracker.flush()
        tracker.log_value("a", 1.0, 1)
        tracker.flush()
        tracker.close()
        tracker.close()
        self.check(tracker, {"a": [(1, 1.0)]})


def make_folder(folder: Path, text: str) -> Path:
    """A folder as an agent's: nested, with an empty file, a binary one, and one with an unusual name."""
    (folder / "training_state").mkdir(parents=True)
    (folder / "manifest.json").write_text(f'{{"kind": "{text}"}}')
    (folder / "policy.safetensors").write_bytes(bytes(range(256)) * 17 + text.encode())
    (folder / "training_state" / "empty").touch()
    (folder / "training_state" / "ünusual näme (1)").write_text(text)
    (folder / f"only-{text}").write_text(text)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its relative name."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
