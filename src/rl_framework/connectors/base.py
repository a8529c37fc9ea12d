"""What every service can do: a tracker takes numbers and files of a run, a store moves folders, a connector is both."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

from typing_extensions import Self

from rl_framework.errors import InvalidInputError, MissingArchiveError


class Closable(ABC):  # noqa: B024  (closing is optional)
    """Something that may hold connections or open files. It is a context manager that closes itself."""

    def close(self) -> None:  # noqa: B027  (nothing to free unless overridden)
        """Free what was opened, after everything handed over has arrived; calling it twice is fine."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Tracker(Closable):
    """Takes what a run reports. Two verbs must be written; the others keep nothing unless a service has a place.

    Names are used as they are given, slashes included (`rollout/ep_rew_mean`). Every verb raises a
    `ConnectorError` if the service refuses, and may be called before `close` in any order.
    """

    @abstractmethod
    def log_value(self, name: str, value: float, step: int | None = None) -> None:
        """Note one number.

        Args:
            name: What it is.
            value: The number; NaN and infinities are kept.
            step: Environment steps at that moment; None for a number that belongs to the run as a whole.
        """

    @abstractmethod
    def log_values_with_step(self, values: Mapping[str, float], step: int) -> None:
        """Note several numbers that belong to the same step."""

    def log_text(self, name: str, text: str, step: int | None = None) -> None:
        """Note a text."""

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Note how the run was set up: names with numbers, strings, booleans, or nests of them."""

    def log_video(self, name: str, path: Path, step: int | None = None) -> None:
        """Keep a copy of a video file."""

    def log_artifact(self, name: str, path: Path) -> None:
        """Keep a copy of any file; a later one under the same name takes its place."""

    def flush(self) -> None:
        """Hand over what is still waiting."""


class Store(Closable):
    """Keeps folders and gives them back, unchanged, by revision.

    Attributes:
        has_pages: Whether people look at what it keeps in a browser, so that pictures and files that other libraries
            load belong beside an agent.
    """

    has_pages: ClassVar[bool] = False

    @property
    def uri(self) -> str | None:
        """By which `load_agent` finds the newest agent; None if there is no such line."""
        return None

    def find_file(self, name: str) -> Path | None:  # noqa: ARG002  (a store that keeps single files overrides it)
        """One file of the newest revision, not to be changed; None if there is none."""
        return None

    @abstractmethod
    def upload(self, folder: Path, *, message: str | None = None) -> str:
        """Keep a copy of a folder as the newest revision; earlier ones stay as they are.

        Args:
            folder: What to keep.
            message: A sentence about it, for people.

        Returns:
            Where it went, for people.

        Raises:
            MissingArchiveError: No such folder.
            ConnectorError: It could not be kept; nothing of it is visible then.
        """

    @abstractmethod
    def download(self, destination: Path | None = None, *, revision: str | None = None) -> Path:
        """Give back a folder.

        Args:
            destination: Where to put it, replacing what is there once it is complete. None: wherever the store
                keeps its copies, which are not to be changed.
            revision: Which one; the newest if None.

        Returns:
            The folder.

        Raises:
            ConnectorError: Nothing was uploaded, or no such revision.
        """


class Connector(Store, Tracker):
    """A service that is both: it keeps agents, and the numbers of the run that made them."""


def check_folder(folder: Path) -> Path:
    """The folder to upload.

    Raises:
        MissingArchiveError: There is nothing.
        InvalidInputError: It is a file.
    """
    if not folder.exists():
        raise MissingArchiveError(f"Expected a folder to upload, but there is nothing at {folder}.")
    if not folder.is_dir():
        raise InvalidInputError(f"Expected a folder to upload, got the file {folder}.")
    return folder


def check_file(path: Path) -> Path:
    """The file to log.

    Raises:
        MissingArchiveError: There is no file.
    """
    if not path.is_file():
        raise MissingArchiveError(f"Expected a file to log, but there is none at {path}.")
    return path


def as_number(name: str, value: Any) -> float:
    """A value as a float.

    Raises:
        InvalidInputError: It is not a number.
    """
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"Expected a number for {name!r}, got {value!r}.") from error
