"""Any callable as a callback."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from rl_framework.callbacks.base import Callback, RunHandle
from rl_framework.core.reports import Report
from rl_framework.errors import InvalidInputError


class FunctionCallback(Callback):
    """Calls `function(report)` with each report. The run stops if it returns False, and only then.

    What the function raises ends the training.
    """

    def __init__(self, function: Callable[[Report], Any], *, every_timesteps: int | None = None) -> None:
        """Wrap a function.

        Args:
            function: Called with a `Report`.
            every_timesteps: Environment steps between reports that it needs; None for the run's own rhythm.

        Raises:
            InvalidInputError: It cannot be called with one argument.
        """
        _check_signature(function)
        self._function = function
        self.every_timesteps = every_timesteps

    def on_report(self, run: RunHandle, report: Report) -> None:
        """Call the function."""
        if self._function(report) is False:
            run.stop(f"{_name(self._function)} returned False at step {report.timesteps}")


def as_callback(thing: Any) -> Callback:
    """A callback as it is, and a function of a report as a callback.

    Raises:
        InvalidInputError: It is neither.
    """
    if isinstance(thing, Callback):
        return thing
    if isinstance(thing, type):
        raise InvalidInputError(f"A callback must be an object, got the class {thing.__name__}: call it first.")
    if callable(thing):
        return FunctionCallback(thing)
    raise InvalidInputError(
        f"A callback must be a Callback of this library or a function of one Report, got {type(thing).__name__}: "
        f"{thing!r}."
    )


def _check_signature(function: Callable[..., Any]) -> None:
    if not callable(function):
        raise InvalidInputError(f"A callback function must be callable, got {function!r}.")
    try:
        inspect.signature(function).bind(None)
    except TypeError as error:
        raise InvalidInputError(
            f"A callback function is called with one argument, the Report. {_name(function)} is not: {error}."
        ) from error
    except ValueError:  # a built-in that does not tell its signature
        return


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", None) or repr(function)
