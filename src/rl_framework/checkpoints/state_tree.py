"""Nested state on disk: plain values as JSON, arrays and tensors beside it as safetensors. No pickle.

A tree may hold None, bools, ints of any size, floats, text, bytes, lists, tuples, dicts (with simple keys of any
kind, as torch's optimisers have), NumPy numbers and arrays of numbers, and torch tensors. It comes back the same,
bit for bit: number types, memory order and NaN payloads included. Two places that hold the same array or tensor,
such as a feature extractor that actor and critic share, are written once and hold the same one again after reading.
Views that only overlap come back as arrays of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rl_framework.checkpoints import arrays
from rl_framework.checkpoints.plain_values import TAG, Node, decode, dump_json, encode, parse_json
from rl_framework.checkpoints.tensor_file import ByteArray, RawTensor, read_tensors, write_tensors
from rl_framework.core.trees import Path as TreePath
from rl_framework.core.trees import path_name
from rl_framework.errors import CorruptArchiveError, MissingArchiveError

LONG_BYTES = 4096


def write_state(folder: Path, name: str, tree: Any) -> None:
    """Write a tree as `<name>.json` and, if it holds arrays, `<name>.safetensors`.

    Args:
        folder: An existing folder; earlier files of that name are replaced.
        name: Name of the files, without an ending.
        tree: The state.

    Raises:
        ArchiveError: The tree holds something else than the values above, named by its path. Nothing was written.
        OSError: The files cannot be written.
    """
    shelf = _Shelf()
    text = dump_json(encode(tree, foreign=shelf.put))
    tensors = folder / f"{name}.safetensors"
    tensors.unlink(missing_ok=True)
    if shelf.raw:
        write_tensors(tensors, shelf.raw)
    (folder / f"{name}.json").write_text(text, encoding="ascii")


def read_state(folder: Path, name: str) -> Any:
    """The tree that `write_state` wrote. Torch is imported only if the tree holds tensors.

    Raises:
        MissingArchiveError: There is no state of that name.
        CorruptArchiveError: A file is truncated, altered or missing.
    """
    file = folder / f"{name}.json"
    try:
        text = file.read_bytes()
    except FileNotFoundError as error:
        raise MissingArchiveError(f"No state {name!r} in {folder}: {file.name} is missing.") from error
    tensors = folder / f"{name}.safetensors"
    reader = _Reader({key: raw.data for key, raw in read_tensors(tensors).items()} if tensors.is_file() else {})
    return decode(parse_json(text, str(file)), foreign=reader.get)


@dataclass(slots=True)
class _Shelf:
    """Arrays on their way to a file, each under a name that says where it stood in the tree."""

    raw: dict[str, RawTensor] = field(default_factory=dict)
    nodes: dict[tuple[Any, ...], Node] = field(default_factory=dict)
    kept: list[Any] = field(default_factory=list)

    def put(self, value: Any, path: TreePath) -> Node | None:
        """The description of an array, a tensor or long bytes; None for any other value."""
        if type(value) is bytes and len(value) >= LONG_BYTES:
            return self._add({TAG: "long bytes"}, _bytes_tensor(value), path)
        if not (isinstance(value, np.ndarray) or arrays.is_tensor(value)):
            return None
        key = arrays.identity(value)
        if key not in self.nodes:
            describe = arrays.describe_tensor if arrays.is_tensor(value) else arrays.describe_array
            node, raw = describe(value, path)
            self.kept.append(value)
            self.nodes[key] = self._add(node, raw, path)
        return self.nodes[key]

    def _add(self, node: dict[str, Any], raw: RawTensor, path: TreePath) -> Node:
        name = self._free_name(path_name(path).encode("utf-8", "replace").decode())
        self.raw[name] = raw
        return {**node, "data": name}

    def _free_name(self, wanted: str) -> str:
        name, count = wanted, 1
        while name in self.raw or name == "__metadata__":
            count += 1
            name = f"{wanted}#{count}"
        return name


@dataclass(slots=True)
class _Reader:
    """Arrays on their way from a file; a name that is asked for twice gives the same array twice."""

    data: dict[str, ByteArray]
    made: dict[str, Any] = field(default_factory=dict)

    def get(self, node: dict[str, Any], path: TreePath) -> Any:
        name = node["data"]
        if name not in self.data:
            raise CorruptArchiveError(f"The array {name!r} of the state at {path_name(path)!r} is missing.")
        if name not in self.made:
            self.made[name] = _restore(node, self.data[name])
        return self.made[name]


def _restore(node: dict[str, Any], data: ByteArray) -> Any:
    match node[TAG]:
        case "array":
            return arrays.restore_array(node, data)
        case "tensor":
            return arrays.restore_tensor(node, data)
        case "long bytes":
            return data.tobytes()
    raise ValueError(f"unknown kind {node[TAG]!r}")


def _bytes_tensor(value: bytes) -> RawTensor:
    data = np.frombuffer(value, dtype=np.uint8)
    return RawTensor("U8", data.shape, data)
