"""The exception family: every error that this library raises on purpose derives from `RLFrameworkError`.

Messages say what was expected, what was given and how to mend it. Each class also derives from the built-in
exception that a caller would expect (`ValueError`, `FileNotFoundError`, `ImportError`), so that ordinary
`except` clauses keep working.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class RLFrameworkError(Exception):
    """Base of every error that this library raises on purpose."""


class InvalidInputError(RLFrameworkError, ValueError):
    """An argument is outside what the call accepts."""


class SpaceError(InvalidInputError):
    """Observation or action spaces that do not fit each other, the algorithm, or this library."""


class UnknownOptionError(InvalidInputError, TypeError):
    """A name that the callee does not know: a misspelt option, parameter or metric."""

    @classmethod
    def of(cls, what: str, given: str, known: Iterable[str]) -> UnknownOptionError:
        """Build the message for one unknown name, with the nearest known one as a suggestion.

        Args:
            what: What kind of name it is, e.g. `"parameter of PPO"`.
            given: The name that was given.
            known: The names that would have been accepted.
        """
        names = sorted(known)
        close = get_close_matches(given, names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        return cls(f"Unknown {what}: {given!r}.{hint} Known: {', '.join(names) or 'none'}.")


class NotTrainedError(RLFrameworkError, RuntimeError):
    """An agent that has no policy yet was asked to act, to be evaluated or to be saved."""


class EnvironmentFailure(RLFrameworkError, RuntimeError):
    """An environment raised, died, hung or gave something that its spaces do not allow.

    Attributes:
        row: Index of the environment among those that run side by side.
        step: Steps taken in the current episode when it happened, or None before the first reset.
        remote_traceback: The traceback's text where the environment ran in a worker process, else None.
    """

    def __init__(self, message: str, *, row: int, step: int | None = None, remote_traceback: str | None = None) -> None:
        where = f"Environment {row}" if step is None else f"Environment {row}, step {step} of its episode"
        tail = f"\n\nTraceback in the worker process:\n{remote_traceback}" if remote_traceback else ""
        super().__init__(f"{where}: {message}{tail}")
        self.row = row
        self.step = step
        self.remote_traceback = remote_traceback


class InvalidNumberError(EnvironmentFailure):
    """An environment gave a NaN or an infinite number as observation or reward."""


class EnvironmentTimeout(EnvironmentFailure, TimeoutError):
    """An environment in a worker process did not answer in time."""


class UnityFailure(EnvironmentFailure):
    """A Unity player could not be started, or the exchange with it broke; the player is closed by then.

    Args:
        message: What happened and how to mend it.
        row: Index of the player among those that run side by side.
        log_tail: The last lines of the player's log; the message ends with them.
    """

    def __init__(self, message: str, *, row: int = 0, log_tail: Iterable[str] = ()) -> None:
        self.log_tail = tuple(log_tail)
        log = "\n".join(self.log_tail)
        super().__init__(f"{message}\n\nEnd of the player's log:\n{log}" if log else message, row=row)


class UnityPlayerDied(UnityFailure):
    """The player's process ended, or an attached player went away."""


class UnityTimeout(UnityFailure, EnvironmentTimeout):
    """A player did not connect, or did not answer, within its time limit."""


class UnityVersionMismatch(UnityFailure):
    """The player speaks another version of ML-Agents' protocol."""


class UnityStopped(UnityFailure):
    """The player said that it stops: somebody ended the game or left the Editor's play mode."""


class UnityPortInUse(UnityFailure):
    """The port on which a player should be awaited belongs to somebody else."""


class TrainingDivergedError(RLFrameworkError, ArithmeticError):
    """A statistic of an update became NaN or infinite; the weights are good ones from before that update.

    Attributes:
        statistic: Its name, as in the reports.
        update: Number of the update in the algorithm's life, counted from 1.
        kept: Number of the update after which the weights were as they are now.
    """

    def __init__(self, statistic: str, value: float, update: int, hint: str, *, kept: int | None = None) -> None:
        kept = update - 1 if kept is None else kept
        super().__init__(
            f"{statistic} became {value} in update {update}. The weights of update {kept} were kept. {hint}"
        )
        self.kept = kept
        self.statistic = statistic
        self.update = update


class DeviceMemoryError(RLFrameworkError, MemoryError):
    """A device has not enough memory for what was asked."""


class ArchiveError(RLFrameworkError):
    """A saved agent that cannot be read or written."""


class MissingArchiveError(ArchiveError, FileNotFoundError):
    """No saved agent at the given path."""


class CorruptArchiveError(ArchiveError):
    """A saved agent that is truncated, altered or incomplete."""


class NewerFormatError(ArchiveError):
    """A saved agent in a format that only a newer version of this library reads."""


class UnsafeArchiveError(ArchiveError):
    """A file that would execute code or leave its folder when read; nothing of it was executed or written."""


class MissingExtraError(RLFrameworkError, ImportError):
    """An optional dependency is not installed.

    Args:
        feature: What needs it, e.g. `"Recording a video"`.
        extra: Name of the extra to install.
        command: The line that installs it; `pip install 'rl_framework[extra]'` unless given.
    """

    def __init__(self, feature: str, extra: str, command: str | None = None) -> None:
        line = command or f"pip install 'rl_framework[{extra}]'"
        super().__init__(f"{feature} needs the extra {extra!r}, which is not installed. Install it with: {line}")
        self.extra = extra


class ConnectorError(RLFrameworkError):
    """A store or tracker could not do what it was asked."""


class UnreachableServiceError(ConnectorError):
    """A service that cannot be reached or is overloaded; later it may work."""


class VideoError(RLFrameworkError):
    """A video could not be recorded or encoded."""


class LossyConversionWarning(UserWarning):
    """Data went into a form that cannot carry all of it; the message says what was lost."""
