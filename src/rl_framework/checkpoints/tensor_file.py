"""Named arrays in one file: the safetensors format, written and read with one copy and without torch.

The safetensors package can read these files. Its own bindings copy an array more than once on the way to NumPy and
need torch for numbers that NumPy lacks (bfloat16), which a replay buffer of some gigabytes and a process without
torch cannot afford.

Source: the format's description at https://github.com/huggingface/safetensors#format: eight bytes with the length
of the header, little-endian; the header, JSON from names to `dtype`, `shape` and `data_offsets`; the data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_framework.checkpoints.plain_values import parse_json
from rl_framework.errors import CorruptArchiveError, MissingArchiveError

ByteArray = npt.NDArray[np.uint8]
LONGEST_HEADER = 100_000_000
ITEM_BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "C64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class RawTensor:
    """The bytes of an array and how the format names their meaning.

    Attributes:
        dtype: The format's name of the number type, a key of `ITEM_BYTES`.
        shape: Sizes of the axes, the last one contiguous in memory.
        data: Little-endian bytes. `[prod(shape) * ITEM_BYTES[dtype]]`
    """

    dtype: str
    shape: tuple[int, ...]
    data: ByteArray


def write_tensors(path: Path, tensors: Mapping[str, RawTensor]) -> None:
    """Write named arrays; the file is the same for the same arrays, whatever their order.

    Raises:
        OSError: The file cannot be written.
    """
    order = sorted(tensors, key=lambda name: (-ITEM_BYTES[tensors[name].dtype], name))
    header: dict[str, Any] = {}
    end = 0
    for name in order:
        start, end = end, end + tensors[name].data.nbytes
        header[name] = {
            "dtype": tensors[name].dtype, "shape": list(tensors[name].shape), "data_offsets": [start, end]
        }  # fmt: skip
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            file.write(tensors[name].data.data)


def read_tensors(path: Path) -> dict[str, RawTensor]:
    """All arrays of a file, in fresh, writable memory.

    Raises:
        MissingArchiveError: No such file.
        CorruptArchiveError: It is truncated, or not in the format.
    """
    try:
        with path.open("rb") as file:
            return _read_all(file, path)
    except FileNotFoundError as error:
        raise MissingArchiveError(f"{path} is missing.") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptArchiveError(f"{path} is damaged: its header is not valid ({error!r}).") from error


def _read_all(file: BufferedReader, path: Path) -> dict[str, RawTensor]:
    available = path.stat().st_size - 8
    length = int.from_bytes(file.read(8), "little")
    if length > min(LONGEST_HEADER, available):
        raise CorruptArchiveError(f"{path} is damaged: it ends inside its header.")
    header = parse_json(file.read(length), str(path))
    header.pop("__metadata__", None)
    entries = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
    _check_layout([entry for _, entry in entries], available - length, path)
    return {name: _read_one(file, entry) for name, entry in entries}


def _check_layout(entries: list[dict[str, Any]], available: int, path: Path) -> None:
    """The arrays must follow each other without gaps, and fill the file."""
    end = 0
    for entry in entries:
        sizes, (start, stop) = entry["shape"], entry["data_offsets"]
        if any(type(size) is not int or size < 0 for size in sizes):
            raise ValueError(f"shape {sizes}")
        count = 1
        for size in sizes:
            count *= size
        if start != end or stop - start != count * ITEM_BYTES[entry["dtype"]]:
            raise ValueError(f"bytes {start} to {stop} for shape {sizes}")
        end = stop
    if end != available:
        raise CorruptArchiveError(f"{path} is damaged: it holds {available} bytes of arrays, expected {end}.")


def _read_one(file: BufferedReader, entry: dict[str, Any]) -> RawTensor:
    start, stop = entry["data_offsets"]
    data = np.empty(stop - start, dtype=np.uint8)
    rest = data.data
    while rest:
        got = file.readinto(rest)
        if not got:
            raise ValueError("the file ended early")
        rest = rest[got:]
    return RawTensor(entry["dtype"], tuple(entry["shape"]), data)
