"""Plain Python values as strict JSON, and back without loss.

JSON has no tuples, bytes, NaN or keys that are not strings. What it lacks becomes an object with the key `"$"`,
which names the kind: `{"$": "tuple", "items": [1, 2]}`. Everything else looks as one would write it by hand.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from rl_framework.core.trees import Path, path_name
from rl_framework.errors import ArchiveError, CorruptArchiveError

TAG = "$"
DEEPEST = 100
SCALAR_KINDS = "biufcmM"
DECODE_ERRORS = (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError, struct.error)

Node: TypeAlias = Any
EncodeForeign: TypeAlias = Callable[[Any, Path], "Node | None"]
DecodeForeign: TypeAlias = Callable[[dict[str, Any], Path], Any]


def encode(value: Any, path: Path = (), foreign: EncodeForeign | None = None) -> Node:
    """The JSON form of a value.

    Args:
        value: None, a bool, int, float, str, bytes, NumPy number, or a list, tuple or dict of such values. An
            `OrderedDict` becomes a dict; other subclasses are refused, because they would not come back.
        path: Where the value stands in a larger tree, for messages.
        foreign: Asked first about every value; gives its JSON form, or None for a value it does not know.

    Raises:
        ArchiveError: A value of another type, or a tree that is too deep or contains itself.
    """
    if len(path) > DEEPEST:
        raise ArchiveError(f"The state at {path_name(path[:4])!r} is more than {DEEPEST} deep or contains itself.")
    node = foreign(value, path) if foreign is not None else None
    if node is not None:
        return node
    kind = type(value)
    if kind in _ENCODERS:
        return _ENCODERS[kind](value)
    if kind in (list, tuple):
        items = [encode(item, (*path, index), foreign) for index, item in enumerate(value)]
        return items if kind is list else {TAG: "tuple", "items": items}
    if kind in (dict, OrderedDict):
        return _encode_dict(value, path, foreign)
    if isinstance(value, np.generic) and value.dtype.kind in SCALAR_KINDS:
        return {TAG: "scalar", "dtype": value.dtype.str, "data": _to_base64(value.tobytes())}
    raise ArchiveError(
        f"The state at {path_name(path)!r} is a {kind.__module__}.{kind.__qualname__}, which cannot be written "
        "without running code on reading. Give plain values, lists, tuples, dicts, arrays or tensors."
    )


def decode(node: Node, path: Path = (), foreign: DecodeForeign | None = None) -> Any:
    """The value whose JSON form `encode` gave.

    Args:
        node: The JSON form.
        path: Where it stands in a larger tree, for messages.
        foreign: Makes the value of a tagged object of a kind that is not known here.

    Raises:
        CorruptArchiveError: It is not such a form.
    """
    if len(path) > DEEPEST:
        raise CorruptArchiveError(f"The state at {path_name(path[:4])!r} is damaged: it is more than {DEEPEST} deep.")
    if isinstance(node, list):
        return [decode(item, (*path, index), foreign) for index, item in enumerate(node)]
    if not isinstance(node, dict):
        return node
    if TAG not in node:
        return {key: decode(part, (*path, key), foreign) for key, part in node.items()}
    try:
        return _decode_tagged(node, path, foreign)
    except DECODE_ERRORS as error:
        raise CorruptArchiveError(f"The state at {path_name(path)!r} is damaged: {error!r}.") from error


def dump_json(node: Node, *, indent: int | None = None) -> str:
    """Strict JSON text of a form that `encode` gave; indented for files that people read."""
    return json.dumps(node, indent=indent, allow_nan=False)


def parse_json(text: bytes, name: str) -> Node:
    """The JSON value of a file's content.

    Raises:
        CorruptArchiveError: It is not JSON, or nested beyond reason.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorruptArchiveError(f"{name} is damaged: it is not JSON ({error}).") from error


def checked_dtype(name: Any) -> np.dtype[Any]:
    """The number type of that name, e.g. `<f4`.

    Raises:
        ValueError: It is not a type of plain numbers; in particular not one that holds objects.
    """
    dtype = np.dtype(str(name))
    if dtype.kind not in SCALAR_KINDS or dtype.subdtype is not None:
        raise ValueError(f"{name!r} is not a type of numbers")
    return dtype


def _encode_dict(value: dict[Any, Any], path: Path, foreign: EncodeForeign | None) -> Node:
    parts = [(key, encode(part, (*path, _step(key)), foreign)) for key, part in value.items()]
    if TAG not in value and all(type(key) is str and not _has_surrogates(key) for key, _ in parts):
        return dict(parts)
    return {TAG: "dict", "items": [[_encode_key(key, path), part] for key, part in parts]}


def _encode_key(key: Any, path: Path) -> Node:
    if isinstance(key, (list, dict)):
        raise ArchiveError(f"The state at {path_name(path)!r} has a key of type {type(key).__name__}.")
    return encode(key, (*path, _step(key)))


def _step(key: Any) -> str | int:
    return key if isinstance(key, (str, int)) else str(key)


def _encode_int(value: int) -> Node:
    return value if value.bit_length() <= 64 else {TAG: "int", "hex": hex(value)}


def _encode_float(value: float) -> Node:
    if math.isfinite(value):
        return value
    return {TAG: "float", "value": repr(value) if math.isinf(value) else struct.pack(">d", value).hex()}


def _decode_float(text: str) -> float:
    if text in ("inf", "-inf"):
        return float(text)
    (value,) = struct.unpack(">d", bytes.fromhex(text))
    return float(value)


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in text) if not text.isascii() else False


def _encode_text(value: str) -> Node:
    if not _has_surrogates(value):
        return value
    return {TAG: "str", "data": _to_base64(value.encode("utf-8", "surrogatepass"))}


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decode_dict(node: dict[str, Any], path: Path, foreign: DecodeForeign | None) -> dict[Any, Any]:
    parts = [(decode(key, path), part) for key, part in node["items"]]
    return {key: decode(part, (*path, _step(key)), foreign) for key, part in parts}


def _decode_tagged(node: dict[str, Any], path: Path, foreign: DecodeForeign | None) -> Any:
    kind = node[TAG]
    if kind == "tuple":
        return tuple(decode(node["items"], path, foreign))
    if kind == "dict":
        return _decode_dict(node, path, foreign)
    if kind in _DECODERS:
        return _DECODERS[kind](node)
    if foreign is None:
        raise ValueError(f"unknown kind {kind!r}")
    return foreign(node, path)


def _from_base64(data: str) -> bytes:
    return base64.b64decode(data, validate=True)


def _decode_scalar(node: dict[str, Any]) -> Any:
    (value,) = np.frombuffer(_from_base64(node["data"]), checked_dtype(node["dtype"]))
    return value


_ENCODERS: dict[type, Callable[[Any], Node]] = {
    type(None): lambda value: value,
    bool: lambda value: value,
    int: _encode_int,
    float: _encode_float,
    str: _encode_text,
    bytes: lambda value: {TAG: "bytes", "data": _to_base64(value)},
}

_DECODERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "int": lambda node: int(node["hex"], 16),
    "float": lambda node: _decode_float(node["value"]),
    "bytes": lambda node: _from_base64(node["data"]),
    "str": lambda node: _from_base64(node["data"]).decode("utf-8", "surrogatepass"),
    "scalar": _decode_scalar,
}
