"""The game's end of the wire: Python is the server, the game calls."""

from __future__ import annotations

from typing import Any

import grpc  # it ships no types

from tests.envs.unity.peer.protocol import GO_ON, METHOD, message

# Python may hold an answer back for as long as its user thinks before `reset`.
PATIENCE_SECONDS = 600.0
CONNECTION_SECONDS = 60.0
OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
)


class Connection:
    """Calls Python's server.

    Args:
        port: Where it listens on 127.0.0.1; it may come to listen there later.
    """

    def __init__(self, port: int) -> None:
        wire = message("unity_message", "UnityMessageProto")
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS)
        self._call = self._channel.unary_unary(
            METHOD, request_serializer=wire.SerializeToString, response_deserializer=wire.FromString
        )
        self._connected = False

    def exchange(self, said: Any) -> Any:
        """Say something and give the answer.

        Raises:
            grpc.RpcError: Nobody listens there any more.
        """
        patience = PATIENCE_SECONDS if self._connected else CONNECTION_SECONDS
        answer = self._call(said, timeout=patience, wait_for_ready=not self._connected)
        self._connected = True
        return answer

    def close(self) -> None:
        """Hang up."""
        self._channel.close()


def wrapped(output: Any | None = None) -> Any:
    """What the game says, with its header."""
    said = message("unity_message", "UnityMessageProto")()
    said.header.status = GO_ON
    if output is not None:
        said.unity_output.CopyFrom(output)
    return said
