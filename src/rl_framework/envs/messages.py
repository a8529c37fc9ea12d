"""What the process that trains and its workers say to each other."""

from __future__ import annotations

import pickle
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal

import cloudpickle

from rl_framework.core.reports import EpisodeSummary
from rl_framework.core.trees import Tree
from rl_framework.errors import EnvironmentFailure, InvalidInputError, InvalidNumberError, RLFrameworkError

STEP = b"step"
NOTHING = b""


@dataclass(frozen=True, slots=True)
class Request:
    """A verb of the worker, with its arguments; a step travels as `STEP` alone."""

    verb: str
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a verb gave."""

    value: Any = None


@dataclass(frozen=True, slots=True)
class StepRemarks:
    """What a step gave beside its arrays; `NOTHING` travels if there is none of it."""

    info: Any
    final: Tree
    summary: EpisodeSummary | None


@dataclass(frozen=True, slots=True)
class Trouble:
    """An exception on its way to the process that trains."""

    kind: Literal["failure", "number", "input"]
    message: str
    step: int | None
    remote_traceback: str

    @classmethod
    def of(cls, error: Exception) -> Trouble:
        """Pack an exception."""
        origin = error.__cause__ or error
        text = "".join(traceback.format_exception(type(origin), origin, origin.__traceback__))
        if isinstance(error, EnvironmentFailure):
            message = str(error).partition(": ")[2]
            return cls("number" if isinstance(error, InvalidNumberError) else "failure", message, error.step, text)
        if isinstance(error, InvalidInputError):
            return cls("input", str(error), None, text)
        return cls("failure", f"{type(error).__name__}: {error}", None, text)

    def unpack(self, row: int) -> RLFrameworkError:
        """The exception to raise, for the environment of one row."""
        if self.kind == "input":
            return InvalidInputError(self.message)
        kind = InvalidNumberError if self.kind == "number" else EnvironmentFailure
        return kind(self.message, row=row, step=self.step, remote_traceback=self.remote_traceback)


def send(connection: Connection, message: Any) -> None:
    """Send a message; what has no name that the other side could look up travels by value."""
    connection.send_bytes(pack(message))


def pack(message: Any) -> bytes:
    """A message as bytes."""
    try:
        return pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError):
        packed: bytes = cloudpickle.dumps(message)
        return packed


def unpack(data: bytes) -> Any:
    """A message from bytes that `pack` made in another process of ours."""
    return pickle.loads(data)  # noqa: S301  It comes through a pipe that only our own processes hold.
