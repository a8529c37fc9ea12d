"""The messages of the wire, from the installed package."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from rl_framework.compat import mlagents_protocol

METHOD = "/communicator_objects.UnityToExternalProto/Exchange"
GO_ON, CLOSING = 200, 400
STEP, RESET, QUIT = 0, 1, 2


@cache
def message(module: str, name: str) -> Any:
    """The class of a message, such as `message("unity_message", "UnityMessageProto")`."""
    mlagents_protocol.prepare()
    return getattr(import_module(f"mlagents_envs.communicator_objects.{module}_pb2"), name)
