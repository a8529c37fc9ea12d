"""Packages that only some forms of storage need."""

from __future__ import annotations

import importlib

from rl_framework.errors import MissingExtraError


def require(feature: str, *packages: str) -> None:
    """Import packages of the extra `datasets`.

    Args:
        feature: What needs them, e.g. `"Reading a Minari data set"`.
        *packages: Their import names.

    Raises:
        MissingExtraError: One is not installed.
    """
    try:
        for package in packages:
            importlib.import_module(package)
    except ImportError as error:
        raise MissingExtraError(feature, "datasets") from error
