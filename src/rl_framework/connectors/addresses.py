"""Places of agents in one line: `hf://owner/name@revision`, `clearml://id`, `mlflow://model@alias`, or a path."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from rl_framework.connectors.base import Connector
from rl_framework.errors import InvalidInputError, UnknownOptionError

ADDRESS = re.compile(r"([A-Za-z][\w+.-]*)://(.*)", re.DOTALL)
MLFLOW_RUN = re.compile(r"[0-9a-f]{32}(/.+)?")
MLFLOW_VERSION = re.compile(r"(.+)/([0-9]+)")
MISSPELT = re.compile(r"(hf|clearml|mlflow):")

FORMS = {
    "hf": "hf://owner/name or hf://owner/name@revision",
    "clearml": "clearml://<model or task id> to load, clearml://project/task to upload",
    "mlflow": "mlflow://model or mlflow://model@alias",
}


def is_address(place: str | Path) -> bool:
    """Whether it names a place at a service, and not one on this machine."""
    return isinstance(place, str) and ADDRESS.fullmatch(place) is not None


def open_address(address: str) -> tuple[Connector, str | None]:
    """Where an agent is to be loaded from.

    Args:
        address: `hf://owner/name[@revision]`; `clearml://<model id>`, `clearml://<task id>[#artifact]`;
            `mlflow://model[@alias or version]`, `mlflow://<run id>`; or what an upload answered with.

    Returns:
        The connector, and which of its revisions is meant; None for the newest.

    Raises:
        UnknownOptionError: There is no such scheme.
        InvalidInputError: The rest is not as the scheme wants it.
        MissingExtraError: The service's client is not installed.
    """
    scheme, rest = _parts(address)
    openers: dict[str, Callable[[str], tuple[Connector, str | None]]] = {
        "hf": _open_hub,
        "clearml": _open_clearml,
        "mlflow": _open_mlflow,
    }
    return openers[scheme](rest)


def open_destination(place: str | Path, *, private: bool = False) -> Connector:
    """Where an agent is to be uploaded to.

    Args:
        place: `hf://owner/name[@branch]`, `clearml://project/task`, `mlflow://experiment`, or a folder on this machine.
        private: Whether a repository of the Hub that is made for it can be seen by its owner only.

    Raises:
        UnknownOptionError: There is no such scheme.
        InvalidInputError: The rest is not as the scheme wants it.
        MissingExtraError: The service's client is not installed.
    """
    _check_slashes(place)
    if not is_address(place):
        from rl_framework.connectors.local import LocalConnector

        return LocalConnector(place)
    scheme, rest = _parts(str(place))
    if scheme == "hf":
        from rl_framework.connectors.huggingface import HuggingFaceConnector

        repository, branch = _split_revision(rest)
        return HuggingFaceConnector(repository, revision=branch, private=private)
    if scheme == "clearml":
        from rl_framework.connectors.clearml import ClearMLConnector

        project, _, task = rest.rpartition("/")
        return ClearMLConnector(project, task) if project else ClearMLConnector(rest)
    return _open_mlflow(rest)[0]


def _check_slashes(place: str | Path) -> None:
    """Refuse what was meant as an address and would be taken for a folder."""
    found = MISSPELT.match(str(place))
    if found is not None and not is_address(place):
        raise InvalidInputError(f"Expected an address as {FORMS[found.group(1)]}, got {str(place)!r}.")


def _parts(address: str) -> tuple[str, str]:
    found = ADDRESS.fullmatch(address)
    if found is None:
        raise InvalidInputError(f"Expected an address such as {FORMS['hf']}, got {address!r}.")
    scheme, rest = found.groups()
    if scheme not in FORMS:
        raise UnknownOptionError.of("scheme of an address", scheme, FORMS)
    if not rest.strip("/"):
        raise InvalidInputError(f"Expected an address as {FORMS[scheme]}, got {address!r}.")
    return scheme, rest


def _split_revision(rest: str) -> tuple[str, str | None]:
    place, at, revision = rest.partition("@")
    if at and not revision:
        raise InvalidInputError(f"Expected a revision after the @ of {rest!r}.")
    return place, revision or None


def _open_hub(rest: str) -> tuple[Connector, str | None]:
    from rl_framework.connectors.huggingface import HuggingFaceConnector

    repository, revision = _split_revision(rest)
    return HuggingFaceConnector(repository), revision


def _open_clearml(rest: str) -> tuple[Connector, str | None]:
    """An id stands for itself: models and tasks are found without their project."""
    from rl_framework.connectors.clearml import ClearMLConnector

    return ClearMLConnector("rl_framework"), rest


def _open_mlflow(rest: str) -> tuple[Connector, str | None]:
    """Also the forms that an upload answers with: `<model>/<version>`, `<run>/checkpoints/<steps>`."""
    from rl_framework.connectors.mlflow import MLflowConnector

    run = MLFLOW_RUN.fullmatch(rest)
    if run is not None:
        return MLflowConnector("rl_framework"), rest
    version = MLFLOW_VERSION.fullmatch(rest)
    model, revision = version.groups() if version is not None else _split_revision(rest)
    return MLflowConnector(model), revision
