"""The `mlflow` client made quiet and bounded. For the worker process only: import it before MLflow."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from rl_framework.connectors.worker_loop import Kind, Refused, Unreachable

REPETITIONS = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
os.environ.setdefault(REPETITIONS, "5")

from mlflow.exceptions import MlflowException  # noqa: E402  (it reads the variables while it is imported)

ATTEMPTS = 5
PAUSE_SECONDS = 0.5
TRANSIENT_STATUSES = (408, 429, 500, 502, 503, 504)


def create_once(create: Callable[[], Any], find: Callable[[], Any]) -> Any:
    """Create something. The client would repeat a request whose answer was lost, and so create it twice."""
    for attempt in range(ATTEMPTS):
        found = find() if attempt else None
        if found is not None:
            return found
        try:
            with _without_repetitions():
                return create()
        except MlflowException as error:
            if attempt == ATTEMPTS - 1 or not may_pass(error):
                raise
        time.sleep(PAUSE_SECONDS)
    raise Unreachable("no attempt was made")


@contextmanager
def _without_repetitions() -> Iterator[None]:
    before = os.environ[REPETITIONS]
    os.environ[REPETITIONS] = "0"
    try:
        yield
    finally:
        os.environ[REPETITIONS] = before


def unless_missing(look: Callable[[], Any]) -> Any:
    """What there is; None if there is none."""
    try:
        return look()
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def explain(error: BaseException) -> tuple[Kind, str]:
    """Whether an error may pass, and what it says, without secrets."""
    message = f"{error}" if isinstance(error, (Refused, Unreachable)) else f"{type(error).__name__}: {error}"
    return "unreachable" if may_pass(error) else "refused", _without_secrets(message)


def may_pass(error: BaseException) -> bool:
    """Whether waiting may mend an error."""
    if isinstance(error, (Unreachable, ConnectionError, TimeoutError, requests.exceptions.ConnectionError)):
        return True
    if isinstance(error, requests.exceptions.Timeout):
        return True
    if isinstance(error, requests.exceptions.HTTPError):
        return error.response is not None and error.response.status_code in TRANSIENT_STATUSES
    if isinstance(error, MlflowException):
        status: int = error.get_http_status_code()  # type: ignore[no-untyped-call]  # MLflow's own method
        return status in TRANSIENT_STATUSES
    return isinstance(error, requests.exceptions.RequestException)


def _without_secrets(text: str) -> str:
    """Passwords and tokens that MLflow finds in the environment or in an address."""
    for variable in ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"):
        secret = os.environ.get(variable)
        if secret:
            text = text.replace(secret, "***")
    password = urlsplit(os.environ.get("MLFLOW_TRACKING_URI", "")).password
    return text.replace(password, "***") if password else text


def make_database_folder(uri: str) -> None:
    """Make the folder of a database on this machine."""
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).absolute().parent.mkdir(parents=True, exist_ok=True)


def artifacts_of(uri: str) -> str | None:
    """Files go beside a database on this machine; a server knows by itself."""
    if not uri.startswith("sqlite:///"):
        return None
    return (Path(uri.removeprefix("sqlite:///")).absolute().parent / "artifacts").as_uri()
