"""Several connectors that are used as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from rl_framework.connectors.base import Closable, Connector, Store, Tracker, check_file, check_folder
from rl_framework.errors import ConnectorError, InvalidInputError

Member = TypeVar("Member", bound=Closable)
Result = TypeVar("Result")
Failure: TypeAlias = tuple[Closable, Exception]


class Tee(Connector):
    """Hands everything to each of its members, also when some of them fail.

    After all have had their turn, one `ConnectorError` names those that failed. Stores among the members take part
    in `upload` and `download`, trackers in the rest.

    Args:
        members: Connectors, stores and trackers, in the order in which they are served.
    """

    def __init__(self, *members: Store | Tracker) -> None:
        for member in members:
            if not isinstance(member, (Store, Tracker)):
                raise InvalidInputError(f"Expected connectors, stores or trackers, got {member!r}.")
        self.members = members
        self._stores = tuple(member for member in members if isinstance(member, Store))
        self._trackers = tuple(member for member in members if isinstance(member, Tracker))

    def log_value(self, name: str, value: float, step: int | None = None) -> None:
        """Note one number everywhere."""
        _serve(self._trackers, lambda tracker: tracker.log_value(name, value, step))

    def log_values_with_step(self, values: Mapping[str, float], step: int) -> None:
        """Note several numbers everywhere."""
        _serve(self._trackers, lambda tracker: tracker.log_values_with_step(values, step))

    def log_text(self, name: str, text: str, step: int | None = None) -> None:
        """Note a text everywhere."""
        _serve(self._trackers, lambda tracker: tracker.log_text(name, text, step))

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Note the set-up everywhere."""
        _serve(self._trackers, lambda tracker: tracker.log_parameters(parameters))

    def log_video(self, name: str, path: Path, step: int | None = None) -> None:
        """Keep a video everywhere."""
        check_file(path)
        _serve(self._trackers, lambda tracker: tracker.log_video(name, path, step))

    def log_artifact(self, name: str, path: Path) -> None:
        """Keep a file everywhere."""
        check_file(path)
        _serve(self._trackers, lambda tracker: tracker.log_artifact(name, path))

    def upload(self, folder: Path, *, message: str | None = None) -> str:
        """Keep a folder in every store, and say where it went in each."""
        check_folder(folder)
        self._check_stores()
        return ", ".join(_serve(self._stores, lambda store: store.upload(folder, message=message)))

    def download(self, destination: Path | None = None, *, revision: str | None = None) -> Path:
        """Give back a folder from the first store that has it."""
        self._check_stores()
        failures: list[Failure] = []
        for store in self._stores:
            found = _attempt(store, lambda one: one.download(destination, revision=revision), failures)
            if found is not None:
                return found
        raise _error_of(failures) from failures[0][1]

    def flush(self) -> None:
        """Hand over what is waiting, everywhere."""
        _serve(self._trackers, lambda tracker: tracker.flush())

    def close(self) -> None:
        """Close every member."""
        _serve(self.members, lambda member: member.close())

    def _check_stores(self) -> None:
        if not self._stores:
            raise ConnectorError("None of the members of this Tee is a store.")


def _serve(members: Sequence[Member], verb: Callable[[Member], Result]) -> list[Result]:
    """Let each member do it, then raise if some could not."""
    failures: list[Failure] = []
    results = [_attempt(member, verb, failures) for member in members]
    if failures:
        raise _error_of(failures) from failures[0][1]
    return [result for result in results if result is not None]


def _attempt(member: Member, verb: Callable[[Member], Result], failures: list[Failure]) -> Result | None:
    """What the member gave, or None and one more failure."""
    try:
        return verb(member)
    except Exception as error:  # noqa: BLE001
        failures.append((member, error))
        return None


def _error_of(failures: Sequence[Failure]) -> ConnectorError:
    each = "; ".join(f"{type(member).__name__}: {type(error).__name__}: {error}" for member, error in failures)
    return ConnectorError(f"{len(failures)} of the connectors failed. {each}")
