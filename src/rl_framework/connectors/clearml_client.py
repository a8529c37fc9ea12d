"""The `clearml` client made bounded: it says soon that nobody answers. For the worker process only."""

from __future__ import annotations

import os
import re
import threading
import time
from typing import Any

import requests
from clearml import Task
from clearml.backend_api import Session
from clearml.backend_api.session.defs import MissingConfigError
from clearml.backend_api.session.session import LoginError
from clearml.backend_interface.base import InterfaceBase
from clearml.backend_interface.session import SendError
from clearml.config import config_obj

from rl_framework.connectors.worker_loop import Kind, Refused, Unreachable

PAUSES_BETWEEN_KNOCKS = (0.2, 0.5)
CONNECT_PATIENCE = 10.0
SETTINGS = {
    "sdk": {"development": {"report_use_subprocess": False}},
    "api": {
        "http": {
            "wait_on_maintenance_forever": False,
            "extra_retry_codes": [500, 504],
            "retries": {
                "total": 5, "connect": 5, "read": 5, "redirect": 5, "status": 5,
                "backoff_factor": 0.2, "backoff_max": 2,
            },
        }
    },
}  # fmt: skip


def configure() -> None:
    """Overrule the configuration where it would wait for ever, or start processes."""
    config_obj.set_overrides(SETTINGS)
    bound_repetitions()


def has_keys() -> bool:
    """Whether ClearML has been given access keys."""
    environment = os.environ.get("CLEARML_API_ACCESS_KEY") or os.environ.get("CLEARML_AUTH_TOKEN")
    return bool(environment or config_obj.get("api.credentials.access_key", None))


def connect() -> None:
    """Log in; the client keeps the session for all that follows."""
    if InterfaceBase._default_session is None and not Task.is_offline():
        _knock()
    try:
        InterfaceBase._get_default_session()
    except (requests.exceptions.RequestException, LoginError, ValueError) as error:
        if isinstance(error, LoginError) and re.search(r"error 4\d\d", str(error)) and "error 429" not in str(error):
            raise
        raise Unreachable(str(error)) from error


def can_connect() -> bool:
    """Whether the server answers.

    Raises:
        LoginError: It does, and refuses the keys.
    """
    try:
        connect()
    except Unreachable:
        return False
    return True


def _knock() -> None:
    """Look whether anybody is there, which the client itself takes half a minute to find out."""
    host = Session.get_api_server_host()
    for pause in PAUSES_BETWEEN_KNOCKS:
        if _answers(host):
            return
        time.sleep(pause)
    if not _answers(host):
        raise Unreachable(f"nobody answers at {host}")


def _answers(host: str) -> bool:
    try:
        requests.get(f"{host}/debug.ping", timeout=CONNECT_PATIENCE)
    except requests.exceptions.RequestException:
        return False
    return True


def bound_repetitions() -> None:
    """Give up after the client's own few repetitions where the parent waits for an answer."""
    send = Session.send_request

    def bounded(self: Session, *arguments: Any, **options: Any) -> requests.Response:
        if threading.current_thread() is not threading.main_thread():
            return send(self, *arguments, **options)
        try:
            response: requests.Response = send(self, *arguments, **options)
        except requests.exceptions.RequestException as error:
            raise Unreachable(str(error)) from error
        if response.status_code >= 500 or response.status_code == requests.codes.too_many_requests:
            raise Unreachable(f"the server answers with status {response.status_code}")
        return response

    Session.send_request = bounded  # type: ignore[method-assign]  # the only place where its loop can be left


def explain(error: BaseException) -> tuple[Kind, str]:
    """Whether an error may pass, and what it says."""
    secrets = (os.environ.get("CLEARML_API_SECRET_KEY"), config_obj.get("api.credentials.secret_key", None))
    message = f"{error}" if isinstance(error, (Refused, Unreachable)) else f"{type(error).__name__}: {error}"
    for secret in filter(None, secrets):
        message = message.replace(secret, "***")
    return "unreachable" if _may_pass(error) else "refused", message


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, (Unreachable, requests.exceptions.RequestException, ConnectionError, TimeoutError)):
        return True
    if isinstance(error, (Refused, LoginError, MissingConfigError, SendError)):
        return False
    statuses = [int(status) for status in re.findall(r"\((\d{3})\)", str(error))]
    return "failed downloading" in str(error) or any(status >= 500 or status in (408, 429) for status in statuses)
